//! Runs one script, and compares every answer with the model.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Duration, Instant, timeout};
use upload_domain::{ImageFormat, ImagePath, Role};
use upload_sandbox::{
    Person, Stand,
    client::{Answer, Client},
    raw::{RawForm, RawRequest},
    relay::{Mode, Relay},
};
use url::Url;

use crate::{
    aftermath,
    model::{Call, Fact, Heard, Model, Said, Target, Trouble, User},
    script::{Act, Clock, Fault, File, Kind, Link, Script, Step},
    tally::Tally,
    world::{Links, Strategy, World},
};

/// How long an answer may take under any one fault.
const LONGEST_ANSWER: Duration = Duration::from_secs(12);
/// The shortest of the servers' limits. It holds without a fault, too, so a request that took as long may fail on a busy machine.
const SLOW: Duration = Duration::from_secs(1);
/// Which of the users hosts the competition.
const HOST: User = 0;

/// A link with this number or a larger one takes any image, whatever target it is for.
const ANY_TARGET: u8 = 128;

/// What a history knows.
pub struct History<'a> {
    pub world: &'a mut World,
    pub model: Model,
    pub people: [Person; 2],
    pub images: Vec<Image>,
    pub competition: String,
    /// The posts that were asked for, with their ids if an answer said so.
    pub posts: Vec<Option<String>>,
    /// The images for which a form may have written after the last sweep that looks there.
    pub written_late: BTreeSet<usize>,
    files: BTreeMap<Vec<u8>, File>,
    secrets: Vec<String>,
    tally: &'a mut Tally,
    transcript: Vec<String>,
    /// Whether a part of what was asked for may still be carried out.
    unsettled: bool,
}

/// An image that a server has answered with.
pub struct Image {
    pub id: String,
    owner: User,
    path: ImagePath,
    format: ImageFormat,
    forms: Vec<Value>,
}

/// A request that is ready to be sent.
struct Request {
    call: Call,
    what: What,
    /// Which kind of server it needs.
    needs: Option<Strategy>,
}

/// How a request is sent.
enum What {
    Create { path: ImagePath, format: ImageFormat },
    Stream { path: ImagePath, format: ImageFormat, file: Bytes, cut: Option<u16> },
    Renew,
    Upload { form: Value, file: Bytes, cut: Option<u16> },
    Profile,
    Poster,
    Post { ids: Vec<String> },
    DeleteProfile,
    DeletePost { id: String },
    Read,
    Me,
}

/// What came back for a request.
struct Reply {
    /// `None` if there is none.
    answer: Option<Answer>,
    took: Duration,
}

/// Runs the script, heals everything, and checks what is left.
///
/// # Errors
/// What is wrong, with the history up to there.
pub async fn run(world: &mut World, script: &Script, tally: &mut Tally) -> Result<()> {
    let mut history = History::begin(world, tally).await?;
    let mut outcome = history.play(script).await;
    if outcome.is_ok() {
        outcome = aftermath::check(&mut history).await;
    }
    outcome.map_err(|error| history.report(&error))
}

impl<'a> History<'a> {
    pub async fn begin(world: &'a mut World, tally: &'a mut Tally) -> Result<Self> {
        let stand = &world.stand;
        let people = [stand.add_person(Role::Host).await?, stand.add_person(Role::User).await?];
        let url = world.url_of(0).await?;
        let created = Client::new(url, &people[HOST].token)?.create_competition("Open").await?.expect_status(201)?;
        let competition = text(&created.json["competition"]["id"])?;
        let secrets = world.secrets.iter().cloned().chain(people.iter().map(|person| person.token.clone())).collect();
        Ok(Self {
            world,
            model: Model::new(),
            people,
            images: Vec::new(),
            competition,
            posts: Vec::new(),
            written_late: BTreeSet::new(),
            files: BTreeMap::new(),
            secrets,
            tally,
            transcript: Vec::new(),
            unsettled: false,
        })
    }

    async fn play(&mut self, script: &Script) -> Result<()> {
        for step in &script.steps {
            self.transcript.push(format!("{step:?}"));
            self.step(step).await.with_context(|| format!("at step {step:?}"))?;
            if std::mem::take(&mut self.unsettled) {
                self.world.settle().await?;
            }
        }
        Ok(())
    }

    pub async fn step(&mut self, step: &Step) -> Result<()> {
        self.tally.step();
        match step {
            Step::One { act, at, fault } => self.one(act, *at, *fault).await,
            Step::Two { acts: [first, second], at } => {
                let (Some(first), Some(second)) = (self.prepare(first), self.prepare(second)) else { return Ok(()) };
                let urls = [self.url(&first, at[0]).await?, self.url(&second, at[1]).await?];
                let answers = futures::join!(self.send(&first, &urls[0]), self.send(&second, &urls[1]));
                self.hear(vec![(first, answers.0, None), (second, answers.1, None)])
            }
            Step::Overtake { act, at, after, clock } => self.overtake(act, *at, *after, *clock).await,
            Step::Tend { task, fault } => {
                let (finished, bit) = self.world.tend(*task, *fault).await?;
                if let Some(fault) = fault {
                    self.tally.fault(*fault, bit);
                }
                let said = finished.map(|finished| finished.stdout);
                self.transcript.push(format!("    {task:?} says {said:?}"));
                self.tally.heard(&format!("{task:?}"), said.map_or("killed", |_said| "ended"));
                Ok(())
            }
            Step::TendWhile { task, act, at } => {
                let Some(request) = self.prepare(act) else { return Ok(()) };
                let url = self.url(&request, *at).await?;
                let (answer, finished) = futures::join!(self.send(&request, &url), self.world.tend(*task, None));
                finished?;
                self.hear(vec![(request, answer, None)])
            }
            Step::Clock(clock) => {
                self.world.pass(*clock).await?;
                self.model.pass(clock.seconds());
                Ok(())
            }
            Step::Kill { at } => {
                let replica = usize::from(*at) % self.world.replicas.len();
                self.world.replicas[replica].kill();
                self.tally.kill();
                self.world.replicas[replica].bury(&self.secrets).await
            }
        }
    }

    async fn one(&mut self, act: &Act, at: u8, fault: Option<Fault>) -> Result<()> {
        let Some(request) = self.prepare(act) else { return Ok(()) };
        let url = self.url(&request, at).await?;
        // The store is reached without a replica.
        let fault = fault.filter(|_fault| !matches!(request.call, Call::UploadToStore { .. }));
        let Some(fault) = fault else {
            let answer = self.send(&request, &url).await;
            return self.hear(vec![(request, answer, None)]);
        };
        // A server asks the store only for a link or an upload.
        let link = if request.call.asks_the_store() { fault.link } else { Link::Postgres };
        let fault = Fault { link, ..fault };
        let replica = self.replica(&request, at);
        let (answer, bit) = self.world.replicas[replica].broken_by(fault, self.send(&request, &url)).await;
        self.tally.fault(fault, bit);
        self.hear(vec![(request, answer, bit.then_some(fault))])?;
        let token = self.people[HOST].token.clone();
        let replica = &mut self.world.replicas[replica];
        if matches!(fault.kind, Kind::Kill { .. }) {
            // If the request was over before, it is killed now.
            replica.kill();
            self.tally.kill();
            return replica.bury(&self.secrets).await;
        }
        replica.recover(&token).await.context("it does not recover from the fault")
    }

    /// The first request stops while it holds its images. Its lease ends, and the second one claims them, or waits for a longer lease. Then
    /// the first one goes on, and at most one may succeed.
    async fn overtake(&mut self, act: &Act, at: [u8; 2], after: u8, clock: Clock) -> Result<()> {
        let (Some(first), Some(second)) = (self.prepare(act), self.prepare(act)) else { return Ok(()) };
        let (images, ..) = first.call.holds();
        let Some(image) = images.first().map(|image| &self.images[*image].id) else { return Ok(()) };
        if !self.model.are_young_for(clock.seconds(), images) {
            return Ok(());
        }
        let is_held = format!("image WHERE id = '{image}' AND attempt_until > now()");
        let replica = self.replica(&first, at[0]);
        let others: Vec<usize> = self.suitable(&second).into_iter().filter(|other| *other != replica).collect();
        let other = others[usize::from(at[1]) % others.len()];
        let urls = [self.world.url_of(replica).await?, self.world.url_of(other).await?];
        let meanwhile = async {
            // What waits may also be what an earlier request has left to do.
            if self.world.stand.count(&is_held).await? == 0 {
                return anyhow::Ok(None);
            }
            self.world.pass(clock).await?;
            Ok(Some(self.send(&second, &urls[1]).await))
        };
        let sending = self.send(&first, &urls[0]);
        let (answer, meanwhile) = self.world.replicas[replica].held_during(after, sending, meanwhile).await;
        let Some(overtaking) = meanwhile.transpose()?.flatten() else { return self.hear(vec![(first, answer, None)]) };
        self.tally.overtake();
        self.model.pass(clock.seconds());
        let created = |reply: &Result<Reply>| {
            reply.as_ref().is_ok_and(|reply| reply.answer.as_ref().is_some_and(|answer| answer.status == 201))
        };
        ensure!(
            !created(&answer) || !created(&overtaking),
            "both {:?} and the one that overtook it succeed",
            first.call
        );
        self.hear_all(vec![(first, answer, Trouble::Overtaken), (second, overtaking, Trouble::Nothing)])
    }

    /// Sends a request while a link of its replica is broken. Returns the answer, and whether the fault met any traffic. The link works again
    /// afterwards.
    pub async fn broken(
        &mut self,
        act: &Act,
        at: u8,
        link: Link,
        breaks: impl AsyncFnOnce(&Relay, &Stand) -> Result<()>,
    ) -> Result<(String, bool)> {
        self.tally.step();
        self.transcript.push(format!("{act:?}, while the link to {link:?} is broken"));
        let request = self.prepare(act).context("there is nothing to act on")?;
        let url = self.url(&request, at).await?;
        let place = self.replica(&request, at);
        let relay = self.world.replicas[place].links().of(link);
        let bites = relay.bites();
        let reply = tokio::select! {
            // The fault must be there before the request is.
            biased;
            broken = breaks(relay, &self.world.stand) => bail!("the fault ends before the answer: {broken:?}"),
            reply = self.send(&request, &url) => reply?,
        };
        relay.set(Mode::Pass);
        let bit = relay.bites() > bites;
        let trouble = match link {
            _ if !bit => Trouble::Nothing,
            Link::Postgres => Trouble::Database,
            Link::Store => Trouble::Store,
        };
        let (took, said) = (reply.took, self.said(&request.call, reply.answer.as_ref()));
        self.tally.took(link, took);
        self.hear_all(vec![(request, Ok(reply), trouble)])?;
        self.unsettled = false;
        self.world.settle().await?;
        let token = self.people[HOST].token.clone();
        self.world.replicas[place].recover(&token).await.context("it does not recover from the fault")?;
        Ok((format!("{} {}", said.status, said.code).trim_end().to_owned(), bit))
    }

    /// Sends a request, and kills the replica when `reach` is done.
    pub async fn crash(
        &mut self,
        act: &Act,
        at: u8,
        reach: impl AsyncFnOnce(&Links, &Stand) -> Result<()>,
    ) -> Result<()> {
        self.tally.step();
        self.transcript.push(format!("{act:?}, until it is killed"));
        let request = self.prepare(act).context("there is nothing to act on")?;
        let url = self.url(&request, at).await?;
        let replica = &self.world.replicas[self.replica(&request, at)];
        let kill = async {
            let reached = reach(replica.links(), &self.world.stand).await;
            replica.kill();
            replica.links().lose().await;
            reached
        };
        let (answer, reached) = futures::join!(self.send(&request, &url), kill);
        reached?;
        let replica = self.replica(&request, at);
        self.tally.kill();
        self.hear_all(vec![(request, answer, Trouble::Vanishes)])?;
        self.world.replicas[replica].bury(&self.secrets).await?;
        self.unsettled = false;
        self.world.settle().await
    }

    /// The request of a step; `None` if there is nothing to act on.
    fn prepare(&mut self, act: &Act) -> Option<Request> {
        let user = |user: u8| usize::from(user) % 2;
        let (call, what) = match act {
            Act::Create { user: by, path, format } => {
                (Call::Create { user: user(*by), path: *path }, What::Create { path: *path, format: *format })
            }
            Act::Stream { user: by, path, format, file, cut } => (
                Call::Stream { user: user(*by), path: *path, file: *file },
                What::Stream { path: *path, format: *format, file: self.file(*file, *format), cut: *cut },
            ),
            Act::Renew { image, stranger } => {
                let image = self.recent(*image)?;
                (Call::Renew { user: self.caller(image, *stranger), image }, What::Renew)
            }
            Act::Upload { image, form, file, cut } => {
                let image = self.recent(*image)?;
                let forms = &self.images[image].forms;
                let form = forms.get(usize::from(*form) % forms.len().max(1))?.clone();
                let to_server = form["fields"]["policy"].is_null();
                let what = What::Upload { form, file: self.file(*file, self.images[image].format), cut: *cut };
                let call = match to_server {
                    true => Call::UploadToServer { image, file: *file },
                    false => Call::UploadToStore { image, file: *file },
                };
                (call, what)
            }
            Act::Profile { image, stranger } => {
                let image = self.fitting(*image, ImagePath::UserProfile)?;
                let user = self.caller(image, *stranger);
                (Call::Link { user, images: vec![image], target: Target::Profile(user) }, What::Profile)
            }
            Act::Poster { image, stranger } => {
                let image = self.fitting(*image, ImagePath::Competition)?;
                let user = self.caller(image, *stranger);
                (Call::Link { user, images: vec![image], target: Target::Poster }, What::Poster)
            }
            Act::Post { images, stranger } => {
                let mut chosen: Vec<usize> =
                    images.iter().filter_map(|image| self.fitting(*image, ImagePath::Post)).collect();
                let ids = chosen.iter().map(|image| self.images[*image].id.clone()).collect::<Vec<_>>();
                chosen.sort_by_key(|image| &self.images[*image].id);
                if chosen.windows(2).any(|pair| pair[0] == pair[1]) {
                    return None;
                }
                let user = chosen.first().map_or(HOST, |image| self.caller(*image, *stranger));
                self.posts.push(None);
                let target = Target::Post(self.posts.len() - 1);
                (Call::Link { user, images: chosen, target }, What::Post { ids })
            }
            Act::DeleteProfile { user: by } => (Call::DeleteProfile { user: user(*by) }, What::DeleteProfile),
            Act::DeletePost { post, stranger } => {
                let known: Vec<usize> = (0..self.posts.len()).filter(|post| self.posts[*post].is_some()).collect();
                let post = *known.get(usize::from(*post) % known.len().max(1))?;
                let user = usize::from(*stranger);
                (Call::DeletePost { user, post }, What::DeletePost { id: self.posts[post].clone()? })
            }
            Act::Read { image } => (Call::Read { image: self.recent(*image)? }, What::Read),
            Act::Me { user: by } => (Call::Me { user: user(*by) }, What::Me),
        };
        let needs = matches!(call, Call::Stream { .. } | Call::UploadToServer { .. }).then_some(Strategy::Streaming);
        Some(Request { call, what, needs })
    }

    /// The image with this number, counted from the newest.
    fn recent(&self, image: u8) -> Option<usize> {
        let from_newest = usize::from(image) % self.images.len().max(1);
        self.images.len().checked_sub(from_newest + 1)
    }

    /// The same among the images that are for this kind of target, and of those among the ones that may be linked. A large number has any
    /// image. Without such a preference hardly a link would come as far as the store.
    fn fitting(&self, image: u8, path: ImagePath) -> Option<usize> {
        if image >= ANY_TARGET {
            return self.recent(image);
        }
        let fitting = (0..self.images.len()).rev().filter(|place| self.images[*place].path == path).collect::<Vec<_>>();
        let ready = fitting.iter().copied().filter(|place| self.model.may_be_linked(*place)).collect::<Vec<_>>();
        let chosen = if ready.is_empty() { fitting } else { ready };
        chosen.get(usize::from(image) % chosen.len().max(1)).copied().or_else(|| self.recent(image))
    }

    fn caller(&self, image: usize, stranger: bool) -> User {
        let owner = self.images[image].owner;
        if stranger { 1 - owner } else { owner }
    }

    fn file(&mut self, file: File, format: ImageFormat) -> Bytes {
        let bytes = file.bytes(format);
        self.files.insert(bytes.clone(), file);
        bytes.into()
    }

    /// Which file these bytes are.
    pub fn file_of(&self, bytes: &[u8]) -> Option<File> {
        self.files.get(bytes).copied()
    }

    fn replica(&self, request: &Request, at: u8) -> usize {
        let replicas = self.suitable(request);
        replicas[usize::from(at) % replicas.len()]
    }

    fn suitable(&self, request: &Request) -> Vec<usize> {
        let suitable = |index: &usize| request.needs.is_none_or(|needs| self.world.replicas[*index].strategy == needs);
        (0..self.world.replicas.len()).filter(suitable).collect()
    }

    async fn url(&mut self, request: &Request, at: u8) -> Result<String> {
        let replica = self.replica(request, at);
        self.world.url_of(replica).await
    }

    /// Sends the request, and reads the answer.
    async fn send(&self, request: &Request, url: &str) -> Result<Reply> {
        let begun = Instant::now();
        let sent = timeout(LONGEST_ANSWER, self.send_to(request, url)).await;
        let answer = sent.with_context(|| format!("{:?} has no answer after {LONGEST_ANSWER:?}", request.call))??;
        Ok(Reply { answer, took: begun.elapsed() })
    }

    async fn send_to(&self, request: &Request, url: &str) -> Result<Option<Answer>> {
        let client = |user: User| Client::new(url, &self.people[user].token);
        let id = |image: usize| self.images[image].id.as_str();
        let answer = match (&request.call, &request.what) {
            (Call::Create { user, .. }, What::Create { path, format }) => {
                client(*user)?.create_image(*path, *format).await
            }
            (Call::Stream { user, .. }, What::Stream { path, format, file, cut: None }) => {
                client(*user)?.stream(*path, *format, file.clone()).await
            }
            (Call::Stream { user, .. }, What::Stream { path, format, file, cut: Some(cut) }) => {
                let fields = vec![("path".to_owned(), path.to_string())];
                let form = RawForm { fields, content_type: format.to_string(), ..RawForm::of_profile_image() };
                cut_off(&form, url, "/user/images/upload", &self.people[*user].token, file, *cut).await?;
                return Ok(None);
            }
            (Call::Renew { user, image }, What::Renew) => client(*user)?.renew_form(id(*image)).await,
            (call, What::Upload { form, file, cut }) => {
                let form = match call {
                    // The replica that gave out the form may be gone, and all have one secret.
                    Call::UploadToServer { .. } => form_at(form, url)?,
                    _ => form.clone(),
                };
                if let Some(cut) = cut {
                    let (server, target) = (origin(&form)?, RawForm::target(&form)?);
                    cut_off(&RawForm::of_ticket(&form)?, &server, &target, "", file, *cut).await?;
                    return Ok(None);
                }
                Client::anonymous(url)?.upload(&form, file.clone()).await
            }
            (Call::Link { user, images, .. }, What::Profile) => client(*user)?.link_profile(id(images[0])).await,
            (Call::Link { user, images, .. }, What::Poster) => {
                client(*user)?.link_poster(&self.competition, id(images[0])).await
            }
            (Call::Link { user, .. }, What::Post { ids }) => client(*user)?.create_post("Title", "", ids).await,
            (Call::DeleteProfile { user }, _) => client(*user)?.delete_profile().await,
            (Call::DeletePost { user, .. }, What::DeletePost { id }) => client(*user)?.delete_post(id).await,
            (Call::Read { image }, _) => Client::anonymous(url)?.read(id(*image)).await,
            (Call::Me { user }, _) => client(*user)?.me().await,
            _ => bail!("{:?} cannot be sent so", request.call),
        };
        // A connection that breaks is an answer, too. The model says whether it may be.
        let Ok(answer) = answer else { return Ok(None) };
        let location = answer.header("location").to_owned();
        if answer.status == 302 {
            // The bytes in place of the redirect's own, of which there are none.
            let served = Client::anonymous(location)?.get("").await?;
            ensure!(served.status == 200, "what is served answers {}", served.status);
            return Ok(Some(Answer { body: served.body, ..answer }));
        }
        Ok(Some(answer))
    }

    /// Compares answers of the same time with the model, and learns from them. Each is with the fault that bit meanwhile.
    fn hear(&mut self, answers: Vec<(Request, Result<Reply>, Option<Fault>)>) -> Result<()> {
        let answers = answers.into_iter().map(|(request, reply, fault)| {
            let trouble = match fault {
                _ if matches!(request.what, What::Stream { cut: Some(_), .. } | What::Upload { cut: Some(_), .. }) => {
                    Trouble::Vanishes
                }
                None => Trouble::Nothing,
                Some(Fault { kind: Kind::Kill { .. }, .. }) => Trouble::Vanishes,
                Some(Fault { link: Link::Store, .. }) => Trouble::Store,
                Some(Fault { link: Link::Postgres, .. }) => Trouble::Database,
            };
            (request, reply, trouble)
        });
        self.hear_all(answers.collect())
    }

    fn hear_all(&mut self, answers: Vec<(Request, Result<Reply>, Trouble)>) -> Result<()> {
        let mut heard = Vec::new();
        let mut known = Vec::new();
        for (request, reply, mut trouble) in answers {
            let Reply { answer, took } = reply?;
            let said = self.said(&request.call, answer.as_ref());
            if took >= SLOW && said.is_failure() && !trouble.explains(&said) {
                self.tally.slow();
                trouble = Trouble::Slow;
            }
            self.unsettled |= trouble != Trouble::Nothing;
            self.transcript.push(format!("    {:?} -> {} {} {:?}", request.call, said.status, said.code, said.fact));
            self.tally.heard(request.call.name(), &format!("{} {}", said.status, said.code));
            heard.push(Heard { call: request.call.clone(), said, trouble });
            known.extend(answer.map(|answer| (request, answer)));
        }
        self.model.hear(&heard).map_err(anyhow::Error::msg)?;
        for Heard { call, .. } in &heard {
            if let Call::UploadToStore { image, .. } = call
                && self.model.may_be_swept(*image)
            {
                self.written_late.insert(*image);
            }
        }
        self.tally.states(self.model.states.len());
        known.into_iter().try_for_each(|(request, answer)| self.learn(&request, &answer))
    }

    fn said(&self, call: &Call, answer: Option<&Answer>) -> Said {
        let Some(answer) = answer else { return Said::nothing() };
        let fact = match call {
            Call::Read { .. } if answer.status == 302 => Fact::Serves(self.file_of(&answer.body)),
            Call::Me { .. } if answer.status == 200 => {
                let shown = answer.json["user"]["profileImages"][0]["imageEntity"]["id"].as_str();
                Fact::Shows(shown.and_then(|shown| self.images.iter().position(|image| image.id == shown)))
            }
            _ => Fact::Nothing,
        };
        Said::new(answer.status, answer.code(), fact)
    }

    fn learn(&mut self, request: &Request, answer: &Answer) -> Result<()> {
        if answer.status != 201 {
            return Ok(());
        }
        match (&request.call, &request.what) {
            (Call::Create { user, .. }, What::Create { path, format }) => {
                let forms = vec![self.new_form(answer.form())];
                self.add_image(*user, *path, *format, answer, forms, None)
            }
            (Call::Stream { user, file, .. }, What::Stream { path, format, .. }) => {
                self.add_image(*user, *path, *format, answer, Vec::new(), Some(*file))
            }
            (Call::Renew { image, .. }, _) => {
                let form = self.new_form(answer.form());
                self.images[*image].forms.push(form);
                Ok(())
            }
            (Call::Link { target: Target::Post(post), .. }, _) => {
                self.posts[*post] = Some(text(&answer.json["post"]["id"])?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Remembers the parts of a form that must not be in a log.
    fn new_form(&mut self, form: &Value) -> Value {
        let fields = ["policy", "x-amz-signature"].iter().filter_map(|name| form["fields"][name].as_str());
        let ticket = form["url"].as_str().and_then(|url| url.split_once("ticket="));
        self.secrets.extend(fields.chain(ticket.map(|(_url, ticket)| ticket)).map(str::to_owned));
        form.clone()
    }

    fn add_image(
        &mut self,
        owner: User,
        path: ImagePath,
        format: ImageFormat,
        answer: &Answer,
        forms: Vec<Value>,
        media: Option<File>,
    ) -> Result<()> {
        let id = text(&answer.json["imageEntity"]["id"])?;
        self.images.push(Image { id, owner, path, format, forms });
        self.model.add_image(owner, path, media);
        Ok(())
    }

    /// Asks for every image and every profile, so that the model knows what a client sees.
    pub async fn look_at_everything(&mut self) -> Result<()> {
        let images = (0..self.images.len()).map(|image| (Call::Read { image }, What::Read));
        let calls: Vec<_> = images.chain([0, 1].map(|user| (Call::Me { user }, What::Me))).collect();
        for (place, (call, what)) in calls.into_iter().enumerate() {
            let request = Request { call, what, needs: None };
            let url = self.url(&request, u8::try_from(place % 4)?).await?;
            let answer = self.send(&request, &url).await;
            self.hear(vec![(request, answer, None)])?;
        }
        Ok(())
    }

    pub fn scan_logs(&mut self) -> Result<()> {
        self.world.scan_logs(&self.secrets)
    }

    /// The error with what came before it.
    pub fn report(&self, error: &anyhow::Error) -> anyhow::Error {
        let (transcript, complaints) = (self.transcript.join("\n"), self.world.complaints());
        anyhow!("{error:#}\n--- the history\n{transcript}\n--- what the replicas complained of\n{complaints}")
    }

    pub fn note(&mut self, line: &str) {
        self.transcript.push(line.to_owned());
    }
}

/// Sends a part of the request, and closes the connection.
async fn cut_off(form: &RawForm, url: &str, path: &str, token: &str, file: &[u8], cut: u16) -> Result<()> {
    let body = [&form.head(), file, &form.tail()].concat();
    let head = form.request_head(url, path, token, &[("Content-Length", &body.len().to_string())])?;
    let request = [head, body].concat();
    let sent = request.len() * usize::from(cut) / (usize::from(u16::MAX) + 1);
    // A server that has refused, or was killed, need not read on.
    let _refused = RawRequest::begin(url, &request[..sent]).await;
    Ok(())
}

/// The form for the replica with this URL.
fn form_at(form: &Value, url: &str) -> Result<Value> {
    let mut form = form.clone();
    form["url"] = format!("{url}{}", RawForm::target(&form)?).into();
    Ok(form)
}

fn origin(form: &Value) -> Result<String> {
    Ok(Url::parse(&text(&form["url"])?)?.origin().ascii_serialization())
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().with_context(|| format!("{value} is no text"))?.to_owned())
}
