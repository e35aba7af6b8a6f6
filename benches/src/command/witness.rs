//! `upload-bench witness`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{
    compare::{self, SEED},
    load::Progress,
    payload::Payload,
    record::{Ending, Run, Store, Target},
    report::{
        self, figures,
        grid::{Cell, Grid, Kind},
        spread::{Spread, grouped, number},
        targets,
    },
    round::{self, Ground, Turn},
    screen::Screen,
    stage::Stage,
    store::{self, Found},
    witness::Oha,
};

/// The servers that take an image in one request.
const TARGETS: [Target; 2] = [Target::V1Stream, Target::NodeV1];
const GIVE_UP: Duration = Duration::from_secs(60);
const WARM_UP_IMAGES: u32 = 10;

/// Compare this program's own generator with `oha`, round by round on the same servers: v1-stream and node-v1.
#[derive(Debug, Args)]
pub struct WitnessCommand {
    /// Images at once.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    images: u32,

    /// Rounds of each server with each generator.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Where `oha` is [default: on PATH].
    #[arg(long, value_name = "FILE")]
    oha: Option<PathBuf>,

    /// A folder with the binaries of both servers, instead of building them.
    #[arg(long, value_name = "FOLDER")]
    binaries: Option<PathBuf>,
}

/// All rounds of one server with one generator.
struct Rounds {
    target: Target,
    by_oha: bool,
    runs: Vec<Run>,
}

impl WitnessCommand {
    /// Measures, and prints both generators' figures side by side. The exit code is 1 unless every round served every image, and the store
    /// has as many objects of that size.
    ///
    /// # Errors
    /// When something beside the servers does not work.
    pub async fn run(&self, stop: &CancellationToken) -> Result<ExitCode> {
        let oha = Oha::find(self.oha.as_deref())?;
        let Found::Running(store) = store::find() else {
            store::start_again_with_store()?;
            return Ok(ExitCode::FAILURE);
        };
        let stage = Stage::prepare(self.binaries.as_deref(), &TARGETS).await?;
        let (targets, skipped) = compare::taking_part(&TARGETS, &stage);
        let screen = Screen::new();
        for skipped in skipped {
            screen.say(&format!("{} is skipped: {}", targets::name(skipped.target), skipped.reason));
        }
        let mut rounds: Vec<Rounds> = targets
            .iter()
            .flat_map(|target| [false, true].map(|by_oha| Rounds { target: *target, by_oha, runs: Vec::new() }))
            .collect();
        self.measure(&mut rounds, &oha, &stage, store, &screen, stop).await?;
        println!("{}", report::table(&grid(&rounds, self.images)));
        for target in targets {
            println!("{}", agreement(&rounds, target));
        }
        let is_whole = |run: &Run| run.ending == Ending::Finished && run.load.successes == u64::from(self.images);
        let is_sound = !stop.is_cancelled() && rounds.iter().all(|rounds| rounds.runs.iter().all(is_whole));
        Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn measure(
        &self,
        rounds: &mut [Rounds],
        oha: &Oha,
        stage: &Stage,
        store: Store,
        screen: &Screen,
        stop: &CancellationToken,
    ) -> Result<()> {
        let payload = Payload::jpeg(5_000_000, SEED);
        let sandbox = upload_sandbox::Sandbox::start().await?;
        compare::machine(stage, &sandbox, store).await?;
        for round in 1..=self.rounds {
            for rounds in &mut *rounds {
                let ground = Ground {
                    stage,
                    sandbox: &sandbox,
                    store,
                    sink: None,
                    payload: &payload,
                    oha: rounds.by_oha.then_some(oha),
                    warm_up_images: WARM_UP_IMAGES,
                    retry: false,
                    give_up: GIVE_UP,
                    stop,
                };
                let turn = Turn { target: rounds.target, to_sink: false, images: self.images, round };
                let Some(run) = round::make(&ground, turn, &Progress::new()).await? else { return Ok(()) };
                screen.run(&run);
                rounds.runs.push(run);
            }
        }
        Ok(())
    }
}

impl Rounds {
    fn makespan_s(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().map(|run| run.load.makespan_ms / 1e3))
    }

    fn cpu_s_per_gb(&self) -> Option<Spread> {
        figures::cost(&self.runs.iter().collect::<Vec<_>>()).map(|cost| cost.cpu_s_per_gb)
    }
}

/// Objects of the images that count; each was found to have the image's size.
fn objects(run: &Run) -> u64 {
    run.verified.as_ref().map_or(0, |verified| verified.objects.saturating_sub(WARM_UP_IMAGES.into()))
}

fn grid(rounds: &[Rounds], images: u32) -> Grid {
    let figure = |text: String| Cell { text, kind: Kind::Figure };
    let spread = |value: Option<Spread>| figure(value.map(|value| value.text()).unwrap_or_default());
    let rows = rounds.iter().map(|rounds| {
        let words = |text: &str| Cell { text: text.to_owned(), kind: Kind::Words };
        let sum = |of: fn(&Run) -> u64| figure(grouped(rounds.runs.iter().map(of).sum()));
        vec![
            words(targets::name(rounds.target)),
            words(if rounds.by_oha { "oha" } else { "its own" }),
            figure(rounds.runs.len().to_string()),
            sum(|run| run.load.successes),
            sum(objects),
            sum(|run| objects(run) * run.image_bytes),
            spread(rounds.makespan_s()),
            spread(rounds.cpu_s_per_gb()),
        ]
    });
    let head = ["server", "generator", "rounds", "successes", "objects", "bytes", "makespan s", "CPU s/GB"];
    Grid {
        title: format!("{images} images at once, by two generators in turn"),
        note: "Objects and bytes are what was found in the store afterwards, without those of the warm-up. Medians with range."
            .to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

/// How far the two are from each other, as the ratios of their medians.
fn agreement(rounds: &[Rounds], target: Target) -> String {
    let of = |by_oha| rounds.iter().find(|rounds| (rounds.target, rounds.by_oha) == (target, by_oha));
    let ratio = |value: fn(&Rounds) -> Option<Spread>| {
        let ratio = value(of(false)?)?.median / value(of(true)?)?.median;
        Some(number(ratio))
    };
    let text = |ratio: Option<String>| ratio.unwrap_or_else(|| "not known".to_owned());
    format!(
        "{}, its own by oha's: makespan {}, CPU s/GB {}",
        targets::name(target),
        text(ratio(Rounds::makespan_s)),
        text(ratio(Rounds::cpu_s_per_gb))
    )
}
