//! Rules for compose.yaml as a whole, and for the scripts beside it.

use super::*;

/// The clients with which the other images' health checks ask their own servers. (nginx's and redis's are Alpine's.)
const CLIENTS: [(&str, &str); 4] = [
    ("postgres", "pg_isready"),
    ("quay.io/minio/minio", "mc"),
    ("nginxinc/nginx-unprivileged", "wget"),
    ("redis", "redis-cli"),
];

/// The limits of each part on the original's test machine; the store had no limit there.
const MACHINE: [(&str, &str, &str); 4] =
    [("v1", "1", "1g"), ("v2", "1", "1g"), ("postgres", "1", "1g"), ("redis", "1", "555m")];

#[derive(Deserialize)]
struct Whole {
    services: BTreeMap<String, Container>,
    volumes: BTreeMap<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Container {
    #[serde(flatten)]
    service: Service,
    image: String,
    build: Option<Build>,
    user: Option<String>,
    read_only: bool,
    cap_drop: Vec<String>,
    security_opt: Vec<String>,
    networks: Value,
    ports: Vec<String>,
    depends_on: BTreeMap<String, Dependency>,
    deploy: Value,
    restart: String,
    profiles: Vec<String>,
}

#[derive(Deserialize)]
struct Build {
    context: String,
    dockerfile: String,
}

#[derive(Deserialize)]
struct Dependency {
    condition: String,
}

impl Container {
    fn stays(&self) -> bool {
        self.restart != "no"
    }

    /// `cpus` or `memory`.
    fn limit(&self, of: &str) -> &str {
        self.deploy["resources"]["limits"][of].as_str().unwrap_or_default()
    }
}

fn whole() -> Whole {
    yaml_serde::from_value(document()).unwrap()
}

#[test]
fn every_service_has_limits_and_the_original_machine_s_where_it_had_them() {
    let file = whole();
    for (name, service) in &file.services {
        assert!(service.limit("cpus").parse::<f64>().is_ok_and(|cpus| cpus > 0.0), "{name} has no limit of CPUs");
        assert!(service.limit("memory").ends_with(['m', 'g']), "{name} has no limit of memory");
    }
    for (name, cpus, memory) in MACHINE {
        let service = &file.services[name];
        assert_eq!((service.limit("cpus"), service.limit("memory")), (cpus, memory), "{name}");
    }
}

#[test]
fn what_stays_is_restarted_and_tells_its_health_and_the_rest_runs_once() {
    for (name, service) in &whole().services {
        assert!(["no", "unless-stopped"].contains(&service.restart.as_str()), "{name} restarts {}", service.restart);
        assert_eq!(
            !service.service.healthcheck.is_null(),
            service.stays(),
            "{name}: a health check where it stays, and only there"
        );
        assert_eq!(service.service.stop_grace_period.is_some(), service.stays(), "{name}: time to stop where it stays");
    }
}

#[test]
fn every_health_check_runs_a_program_that_its_image_has_and_ends_before_it_is_ended() {
    let file = whole();
    let ours = programs_of_our_image();
    assert!(["upload-ops", "entrypoint", "curl"].iter().all(|name| ours.iter().any(|known| known == name)), "{ours:?}");
    for (name, service) in &file.services {
        let check = service.service.check();
        let [kind, program, words @ ..] = check.as_slice() else {
            assert!(service.service.healthcheck.is_null(), "{name}: a health check is a list of words");
            continue;
        };
        assert_eq!(kind, "CMD", "{name}: without a shell");
        let has = match service.image.split([':', '@']).next().unwrap() {
            "upload-servers" => ours.contains(program) && (program != "entrypoint" || ours.contains(&words[0])),
            image => CLIENTS.contains(&(image, program)),
        };
        assert!(has, "{name}: {program} is not in {}", service.image);
        if let Some(at) = words.iter().position(|word| word == "--max-time" || word == "-T") {
            let timeout = service.service.healthcheck["timeout"].as_str().and_then(|text| text.strip_suffix('s'));
            let [gives_up, is_ended] =
                [words[at + 1].as_str(), timeout.unwrap()].map(|text| text.parse::<u32>().unwrap());
            assert!(gives_up < is_ended, "{name}: the check is ended before it gives up");
        }
    }
}

/// The programs that the last stage of our Dockerfile puts on PATH, as far as it shows them. A package has a program of its own name.
fn programs_of_our_image() -> Vec<String> {
    let dockerfile = text("Dockerfile").replace("\\\n", " ");
    let (build, last) = dockerfile.rsplit_once("\nFROM ").unwrap();
    let names = |words: &str| -> Vec<String> {
        let words = words.split_whitespace().filter(|word| !word.starts_with('-'));
        words.map(|word| word.trim_matches('"').rsplit('/').next().unwrap().to_owned()).collect()
    };
    let between =
        |text: &str, start: &str, end: &str| names(text.split_once(start).unwrap().1.split(end).next().unwrap());
    let copied = last.lines().filter_map(|line| line.strip_prefix("COPY ")).flat_map(|line| names(line).pop());
    [between(build, "install -D -t binaries", "\n"), between(last, "apt-get install", "&&"), copied.collect()].concat()
}

#[test]
fn every_health_check_asks_for_what_tells_whether_its_service_can_work() {
    let file = whole();
    let has = |name: &str, wanted: &[&str]| {
        let words = file.services[name].service.check();
        assert!(
            wanted.iter().all(|wanted| words.iter().any(|word| word == wanted)),
            "{name}: {words:?} lacks {wanted:?}"
        );
    };
    // Without an option for it, curl counts a 503 as a success.
    for (name, listens, path, more) in [
        ("v1", "BIND_ADDRESS", "/health/ready", &["--fail"][..]),
        ("v2", "BIND_ADDRESS", "/health/ready", &["--fail"]),
        ("nginx", "LISTEN", "/limits", &[]),
    ] {
        let listens = &file.services[name].service.environment[listens];
        let url = format!("http://127.0.0.1:{}{path}", listens.rsplit(':').next().unwrap());
        has(name, &[&[url.as_str()], more].concat());
        for document in ["openapi-v1.json", "openapi-v2.json"] {
            let document: Value = yaml_serde::from_str(&text(&format!("../docs/{document}"))).unwrap();
            assert!(!document["paths"][path]["get"].is_null(), "{path} is no route");
        }
    }
    // The database and user that compose/postgres makes, over TCP.
    let made = text("postgres/uploads.sh");
    assert!(made.contains("CREATE ROLE uploads ") && made.contains("CREATE DATABASE uploads "));
    has("postgres", &["--host=127.0.0.1", "--username=uploads", "--dbname=uploads"]);
    has("minio", &["ready", "local"]);
    has("redis", &["ping"]);
    has("sweep", &["upload-ops", "sweep", "--once"]);
}

#[test]
fn a_service_waits_for_the_health_of_what_stays_and_for_the_success_of_what_runs_once() {
    let file = whole();
    for (name, service) in &file.services {
        for (needed, Dependency { condition }) in &service.depends_on {
            let needed_service = file.services.get(needed).unwrap_or_else(|| panic!("{name} waits for {needed}"));
            let right = if needed_service.stays() { "service_healthy" } else { "service_completed_successfully" };
            assert_eq!(condition, right, "{name} waits for {needed}");
            assert!(needed_service.profiles.is_empty(), "{name} waits for {needed}, which only a profile starts");
        }
    }
}

#[test]
fn no_service_waits_for_itself_by_way_of_others() {
    let mut waiting = whole().services;
    while !waiting.is_empty() {
        let names: Vec<String> = waiting.keys().cloned().collect();
        waiting.retain(|_, service| service.depends_on.keys().any(|needed| names.contains(needed)));
        assert!(waiting.len() < names.len(), "{names:?} wait for each other");
    }
}

#[test]
fn who_reads_what_another_makes_waits_for_it() {
    let file = whole();
    let waits = |name: &str, needed: &str| {
        let mut reached = vec![name];
        let mut next = 0;
        while let Some(name) = reached.get(next).copied() {
            reached.extend(file.services[name].depends_on.keys().map(String::as_str));
            next += 1;
        }
        reached.contains(&needed)
    };
    for (name, service) in file.services.iter().filter(|(name, _)| *name != "secrets") {
        for (volume, _) in service.service.mounts() {
            assert!(!volume.starts_with("secrets-") || waits(name, "secrets"), "{name} does not wait for its secrets");
            assert!(volume != "credentials" || waits(name, "minio-keys"), "{name} does not wait for its credentials");
        }
    }
}

#[test]
fn every_image_is_pinned_or_built_here() {
    let file = whole();
    let built: Vec<_> = file.services.values().filter(|service| service.build.is_some()).collect();
    assert_eq!(built.len(), 1, "one service builds the image");
    let build = built[0].build.as_ref().unwrap();
    assert!(folder().join(&build.context).join(&build.dockerfile).is_file(), "{} is not there", build.dockerfile);
    for (name, service) in file.services.iter().filter(|(_, service)| service.image != built[0].image) {
        assert!(is_pinned(&service.image), "{name}: {} is not pinned", service.image);
    }
    for line in text("Dockerfile").lines().filter(|line| line.starts_with("FROM ")) {
        assert!(is_pinned(line.split(' ').nth(1).unwrap()), "{line}");
    }
}

/// By a digest, or by a tag that names more than a major version.
fn is_pinned(image: &str) -> bool {
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
    image.contains("@sha256:") || tag.bytes().filter(u8::is_ascii_digit).count() >= 3
}

#[test]
fn every_volume_is_declared_and_every_mounted_file_is_in_the_repository() {
    let file = whole();
    let mut used = Vec::new();
    for (name, service) in &file.services {
        for (source, _) in service.service.mounts() {
            if source.starts_with("./") {
                assert!(folder().join(source).exists(), "{name} mounts {source}, which is not there");
            } else {
                assert!(file.volumes.contains_key(source), "{name} mounts {source}, which is not declared");
                used.push(source);
            }
        }
    }
    assert!(file.volumes.keys().all(|volume| used.contains(&volume.as_str())), "a volume is used by nobody");
}

#[test]
fn only_nginx_and_the_store_are_published_and_only_on_this_machine() {
    for (name, service) in &whole().services {
        let expected: &[&str] = match name.as_str() {
            "nginx" => &["127.0.0.1:8080:8080"],
            "minio" => &["127.0.0.1:9000:9000"],
            _ => &[],
        };
        assert_eq!(service.ports, expected, "{name}");
    }
}

#[test]
fn every_service_runs_without_a_profile() {
    for (name, service) in &whole().services {
        assert!(service.profiles.is_empty(), "{name}");
    }
}

#[test]
fn both_servers_count_in_the_redis_of_this_file() {
    let file = whole();
    for server in ["v1", "v2"] {
        assert_eq!(file.services[server].service.environment["REDIS_URL"], "redis://redis:6379", "{server}");
    }
    assert_eq!(file.services["redis"].networks, file.services["postgres"].networks, "only our containers reach it");
}

#[test]
fn nothing_runs_as_root_but_what_gives_volumes_away_and_nothing_may_write_its_image() {
    for (name, service) in &whole().services {
        // Only our own image names its user itself.
        let user = service.user.clone().unwrap_or_else(image_user);
        assert_eq!(is_root(&user), name == "secrets", "{name} runs as {user}");
        assert!(service.read_only, "{name} may write its image");
        assert_eq!(service.cap_drop, ["ALL"], "{name}");
        assert_eq!(service.security_opt, ["no-new-privileges:true"], "{name}");
    }
}

fn image_user() -> String {
    let dockerfile = text("Dockerfile");
    let last = dockerfile.lines().filter_map(|line| line.strip_prefix("USER ")).next_back();
    last.unwrap().to_owned()
}

/// A name could be root's, so a user must be a number, which Kubernetes' runAsNonRoot wants too.
fn is_root(user: &str) -> bool {
    user.split(':').next().and_then(|id| id.parse::<u32>().ok()).unwrap() == 0
}

#[test]
fn the_servers_trust_nginx_and_nobody_else() {
    let file = whole();
    let address = file.services["nginx"].networks["front"]["ipv4_address"].as_str().unwrap();
    for server in ["v1", "v2"] {
        assert_eq!(file.services[server].service.environment["TRUSTED_PROXIES"], address, "{server}");
    }
}

#[test]
fn nginx_is_told_everything_that_its_configuration_asks_for() {
    let told = &whole().services["nginx"].service.environment;
    let template = text("nginx/uploads.conf.template");
    let asked = template.split("${").skip(1).map(|rest| rest.split_once('}').unwrap().0);
    for name in asked {
        assert!(told.contains_key(name), "{name} is not set");
    }
}

#[test]
fn what_a_switch_of_servers_changes_can_be_set() {
    let file = text("compose.yaml");
    for name in ["ACTIVE", "V2_PERCENT", "V1_ADDRESS", "V2_ADDRESS"] {
        assert!(file.contains(&format!("{name}: ${{{name}:-")), "{name} is fixed");
    }
}

#[test]
fn secrets_that_are_there_stay() {
    let file = File::read();
    let secrets = Secrets::make(&file);
    let service = &file.services["v1"];
    let secret = || secrets.read(service, &service.environment["JWT_SECRET_FILE"]).unwrap();
    let first = secret();
    secrets.run("elsewhere/uploads");
    assert_eq!(secret(), first);
    assert_ne!(Secrets::make(&file).read(service, &service.environment["JWT_SECRET_FILE"]).unwrap(), first);
}

#[test]
fn the_entry_point_takes_a_secret_from_its_file_and_refuses_what_it_cannot_read() {
    let folder = TempDir::new().unwrap();
    let (there, empty) = (folder.path().join("there"), folder.path().join("empty"));
    fs::write(&there, "hunter2 and more\n").unwrap();
    fs::write(&empty, "").unwrap();
    let there = there.to_str().unwrap();
    let print = [r#"printf '%s' "$JWT_SECRET""#];
    assert_eq!(enter(&[("JWT_SECRET_FILE", there)], print), (Some(0), "hunter2 and more".to_owned(), String::new()));
    for (variables, said) in [
        (&[("JWT_SECRET_FILE", "/nowhere")][..], "/nowhere"),
        (&[("JWT_SECRET_FILE", empty.to_str().unwrap())], "is empty"),
        (&[("JWT_SECRET_FILE", there), ("JWT_SECRET", "hunter2")], "both set"),
    ] {
        let (code, stdout, stderr) = enter(variables, print);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains("JWT_SECRET_FILE") && stderr.contains(said), "{stderr}");
        assert!(stderr.lines().count() == 1 && !stderr.contains("hunter2"), "{stderr}");
    }
}

/// Runs a shell script through the entry point with these variables. Returns exit code, stdout and stderr.
fn enter(variables: &[(&str, &str)], script: [&str; 1]) -> (Option<i32>, String, String) {
    let mut shell = std::process::Command::new("sh");
    shell.arg(folder().join("entrypoint")).args(["sh", "-c"]).args(script).env_remove("JWT_SECRET");
    let done = shell.envs(variables.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn a_variable_stands_for_its_default() {
    assert_eq!(with_defaults("${A:-127.0.0.1:1}:2 $$(id) ${B:-}"), "127.0.0.1:1:2 $(id) ");
}

#[test]
fn every_kind_of_misfit_is_found() {
    let file = File::read();
    let secrets = Secrets::make(&file);
    let program = Command::new("program")
        .arg(Arg::new("port").long("port").env("PORT").required(true))
        .arg(Arg::new("secret").long("secret").env("SECRET").hide_env_values(true))
        .arg(Arg::new("timeout").long("timeout").env("SHUTDOWN_TIMEOUT").default_value("50"));
    let faults_with = |variables: &[(&str, &str)], check: &str| {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let service = Service {
            command: vec!["program".to_owned()],
            environment: environment.collect(),
            volumes: file.services["v1"].volumes.clone(),
            stop_grace_period: Some("70s".to_owned()),
            healthcheck: yaml_serde::from_str(&format!("test: [CMD, entrypoint, program, {check}]")).unwrap(),
        };
        service.faults(&program, &file, &secrets, |_matches| Ok(()))
    };
    let faults = |variables: &[(&str, &str)]| faults_with(variables, "--timeout=50");
    assert_eq!(faults(&[("PORT", "1"), ("SECRET_FILE", "/run/secrets/servers/jwt-secret")]), Vec::<String>::new());
    for (variables, said) in [
        (&[][..], "--port"),
        (&[("PORT", "1"), ("PROT", "1")], "PROT is not a variable"),
        (&[("PORT", "1"), ("SECRET", "x")], "SECRET_FILE"),
        (&[("PORT", "1"), ("SECRET_FILE", "/run/secrets/servers/nothing")], "does not make"),
        (&[("PORT", "1"), ("SHUTDOWN_TIMEOUT", "51")], "71s"),
        (&[("PORT", "1"), ("SECRET_PROFILE", "nobody")], "makes no key"),
    ] {
        let found = faults(variables).join("\n");
        assert!(found.contains(said), "{variables:?}: {found}");
    }
    assert!(faults_with(&[("PORT", "1")], "--healthy").join("\n").contains("--healthy"), "a health check is parsed");
    assert_eq!(faults_of_entry_point(&program), ["compose/entrypoint does not take SECRET from a file"]);
}
