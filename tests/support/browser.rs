//! A real browser: headless Chromium, driven by WebDriver as its driver speaks it. Few commands are
//! needed, and the library that has them all rests on one under a licence that this project does
//! not link.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::support::helpers::{free_port, remove_after_the_run, scratch_dir};

/// The Tab key and others, as WebDriver writes them.
pub const TAB: &str = "\u{E004}";
pub const ENTER: &str = "\u{E007}";
pub const ESCAPE: &str = "\u{E00C}";
pub const LEFT: &str = "\u{E012}";
pub const HOME: &str = "\u{E011}";

/// How long is waited for what has to come.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A browser takes a core for a moment, and other tests measure times.
static FEW: Semaphore = Semaphore::const_new(3);

/// A browser with one window. It ends with the value.
pub struct Browser {
    driver: Child,
    address: String,
    session: String,
    http: reqwest::Client,
    /// The process of the browser itself.
    pub process: u64,
    _place: SemaphorePermit<'static>,
}

impl Browser {
    /// Needs `chromium` and `chromedriver`.
    pub async fn start() -> Browser {
        let place = FEW.acquire().await.expect("it is never closed");
        let profile = scratch_dir("browser");
        remove_after_the_run(&profile);
        let scratch = profile.clone();
        let started = tokio::task::spawn_blocking(move || start_driver(&scratch)).await;
        let (driver, address) = started.expect("it starts");
        let mut browser = Browser {
            driver,
            session: String::new(),
            http: reqwest::Client::new(),
            process: 0,
            _place: place,
            address,
        };
        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--disable-gpu".to_owned(),
            // Containers often have little of it.
            "--disable-dev-shm-usage".to_owned(),
            "--window-size=1280,860".to_owned(),
            format!("--user-data-dir={}", profile.join("profile").display()),
        ];
        if nix::unistd::geteuid().is_root() {
            // Chromium refuses to be root with its sandbox on.
            arguments.push("--no-sandbox".to_owned());
        }
        let options = json!({"args": arguments});
        let logs = json!({"browser": "ALL"});
        let wanted = json!({"goog:chromeOptions": options, "goog:loggingPrefs": logs, "acceptInsecureCerts": true});
        let made = browser.post("/session", json!({"capabilities": {"alwaysMatch": wanted}})).await;
        browser.session = format!("/session/{}", made["sessionId"].as_str().expect("it has an id"));
        browser.process = made["capabilities"]["goog:processID"].as_u64().expect("the driver tells it");
        end_after_the_run(browser.process, browser.driver.id(), &profile);
        browser
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.try_post(path, body).await.unwrap_or_else(|(error, message)| panic!("{error}: {message}"))
    }

    /// What the driver answers, or the name of an error and what it says of it.
    async fn try_post(&self, path: &str, body: Value) -> Result<Value, (String, String)> {
        let request = self.http.post(format!("http://{}{path}", self.address)).json(&body);
        let answer: Value = request.send().await.expect("the driver answers").json().await.expect("it is JSON");
        match answer["value"]["error"].as_str() {
            Some(error) => Err((error.to_owned(), answer["value"]["message"].to_string())),
            None => Ok(answer["value"].clone()),
        }
    }

    async fn command(&self, below: &str, body: Value) -> Value {
        self.post(&format!("{}{below}", self.session), body).await
    }

    /// Goes to an address and waits until its files are there.
    pub async fn go(&self, url: &str) {
        self.command("/url", json!({"url": url})).await;
    }

    /// Opens another window and goes on in it.
    pub async fn open_window(&self) -> String {
        let made = self.command("/window/new", json!({"type": "window"})).await;
        let handle = made["handle"].as_str().expect("it has one").to_owned();
        self.go_on_in(&handle).await;
        handle
    }

    /// Goes on in another of the windows.
    pub async fn go_on_in(&self, window: &str) {
        self.command("/window", json!({"handle": window})).await;
    }

    /// The value of a JavaScript expression in the page.
    pub async fn eval(&self, expression: &str) -> Value {
        self.command("/execute/sync", json!({"script": format!("return ({expression})"), "args": []})).await
    }

    /// The visible text of the first element that a selector finds; empty where there is none.
    pub async fn text(&self, selector: &str) -> String {
        let selector = Value::from(selector);
        let text = self.eval(&format!("(document.querySelector({selector})?.innerText ?? '')")).await;
        text.as_str().expect("it is a text").to_owned()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn until<'a>(&'a self, expression: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let asked = async {
                while self.eval(expression).await != true {
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
            };
            if tokio::time::timeout(TIMEOUT, asked).await.is_err() {
                let text = self.eval("document.body.innerText").await;
                panic!(
                    "{caller}: it did not come true that {expression}; the page shows {text}; {:?}",
                    self.log().await
                );
            }
        }
    }

    /// Waits until the element that a selector finds shows a text.
    #[track_caller]
    pub fn shows<'a>(&'a self, selector: &'a str, text: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        let (found, wanted) = (Value::from(selector), Value::from(text));
        async move {
            let expression = format!(
                "[...document.querySelectorAll({found})].some((one) => one.innerText.replace(/\\s+/g, ' ').includes({wanted}))"
            );
            let asked = async {
                while self.eval(&expression).await != true {
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
            };
            if tokio::time::timeout(TIMEOUT, asked).await.is_err() {
                let all = self.eval("document.body.innerText").await;
                panic!("{caller}: {selector} never showed '{text}'; the page shows {all}; {:?}", self.log().await);
            }
        }
    }

    /// Clicks as a pointer does, once there is something to click on: it fails where something else
    /// lies above.
    pub async fn click(&self, selector: &str) {
        let until = tokio::time::Instant::now() + TIMEOUT;
        loop {
            match self.try_click(selector).await {
                Ok(()) => return,
                // Not there yet, or the page has put another in its place meanwhile.
                Err((error, _)) if is_passing(&error) && tokio::time::Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
                Err((error, message)) => panic!("{error}: {message}"),
            }
        }
    }

    async fn try_click(&self, selector: &str) -> Result<(), (String, String)> {
        let wanted = json!({"using": "css selector", "value": selector});
        let found = self.try_post(&format!("{}/element", self.session), wanted).await?;
        let id = found.as_object().and_then(|element| element.values().next()).and_then(Value::as_str);
        let click = format!("{}/element/{}/click", self.session, id.expect("it is found"));
        self.try_post(&click, json!({})).await.map(drop)
    }

    /// Presses key after key, wherever the focus is.
    pub async fn press(&self, keys: &str) {
        let press = |key: char| [("keyDown", key), ("keyUp", key)];
        let steps: Vec<Value> =
            keys.chars().flat_map(press).map(|(kind, key)| json!({"type": kind, "value": key.to_string()})).collect();
        self.command("/actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": steps}]})).await;
    }

    /// Clicks on an input and types, in the place of what is there.
    pub async fn fill(&self, selector: &str, text: &str) {
        self.click(selector).await;
        self.eval(&format!("document.querySelector({}).select()", Value::from(selector))).await;
        self.press(text).await;
    }

    /// A command of the browser's own protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// A screen of that size, and whether it is a phone's.
    pub async fn screen(&self, width: u32, height: u32, scale: u32, is_phone: bool) {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone});
        self.devtools("Emulation.setDeviceMetricsOverride", screen).await;
    }

    /// What the reader has asked for, as `prefers-color-scheme` and `dark`.
    pub async fn prefer(&self, feature: &str, value: &str) {
        let features = json!({"features": [{"name": feature, "value": value}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// A picture of what is to be seen.
    pub async fn screenshot(&self) -> Vec<u8> {
        let url = format!("http://{}{}/screenshot", self.address, self.session);
        let answer = self.http.get(url).send().await.expect("the driver answers");
        let answer: Value = answer.json().await.expect("it is JSON");
        STANDARD.decode(answer["value"].as_str().expect("a text")).expect("it is base64")
    }

    /// What went wrong in the page since this was asked last.
    pub async fn log(&self) -> Vec<String> {
        let lines = self.command("/se/log", json!({"type": "browser"})).await;
        let lines = lines.as_array().cloned().unwrap_or_default();
        lines.iter().filter_map(|line| line["message"].as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to end, the driver ends its browser; killed, it would leave it behind. Waiting here
        // is short.
        if let Ok(mut stream) = TcpStream::connect(&self.address) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let request = format!("DELETE {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", self.session);
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read(&mut [0; 256]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Whether an error of the driver's is one of a page that is about to change.
fn is_passing(error: &str) -> bool {
    matches!(error, "no such element" | "stale element reference")
}

/// The driver, on a free port. What it and its browser leave behind is left in that folder.
fn start_driver(scratch: &Path) -> (Child, String) {
    let mut said = Vec::new();
    // It listens in both address families. Left to choose, it takes a port that is free in one, and
    // ends where another program has the same one in the other. So it is given one, and another
    // where somebody was faster.
    for _ in 0..10 {
        let mut driver = Command::new("chromedriver")
            .arg(format!("--port={}", free_port()))
            .env("TMPDIR", scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the driver starts");
        let output = driver.stdout.take().expect("it is piped");
        for line in BufReader::new(output).lines() {
            let line = line.expect("it is text");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                return (driver, format!("127.0.0.1:{}", port.trim_end_matches('.')));
            }
            said.push(line);
        }
        said.push(format!("{:?}", driver.wait()));
    }
    panic!("the driver never started: {said:#?}");
}

/// If this process is killed, nothing is dropped: a small watcher ends the browser then. It knows
/// it by its profile.
fn end_after_the_run(browser: u64, driver: u32, profile: &Path) {
    // Nobody waits for the watcher: it outlives this process, or ends with the browser.
    #[expect(clippy::zombie_processes)]
    let _watcher = Command::new("sh")
        .args([
            "-c",
            "while kill -0 $0 && kill -0 $1; do sleep 0.3; done; grep -qaF -- \"$3\" /proc/$1/cmdline && kill $1; \
               grep -qa chromedriver /proc/$2/cmdline && kill $2",
        ])
        .args([std::process::id().to_string(), browser.to_string(), driver.to_string()])
        .arg(profile)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh is there");
}
