//! The pages that a new operator begins with: their files and commands, as they are printed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::fixture::{PROGRAM, free_address, get, request, wait_until};

/// The password that the pages use.
const PASSWORD: &str = "down-the-rabbit-hole";

/// Commands that stay in their terminal until they are stopped.
const STAYING: [&str; 2] = ["python3 app.py", "auth-gateway --config gateway.toml"];

/// Reads blocks from standard input, each ended by a NUL, and prints a line after each. Commands that ask for a
/// password read the pages' one.
const SHELL: &str = r#"trap 'kill $(jobs -p)' EXIT
exec 3<&0
set -eu
while IFS= read -r -d '' block <&3; do
  eval "$block" <<<"$PASSWORD"
  printf '\001\n'
done"#;

/// A shell in a folder of its own, with the program on its path.
struct Shell {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn start(dir: &Path, admin: SocketAddr) -> Shell {
        let program = Path::new(PROGRAM).parent().unwrap().display();
        let path = format!("{program}:{}", std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-c", SHELL]).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
            .env("PATH", path)
            .env("PASSWORD", PASSWORD)
            .env("AUTH_GATEWAY__ADMIN__LISTEN", admin.to_string());
        command.env_remove("AUTH_GATEWAY_PYTHON").env_remove("AUTH_GATEWAY_LONG");
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Shell { input: process.stdin.take(), output, process }
    }

    /// Runs a block of commands and returns what it prints.
    fn run(&mut self, block: &str) -> String {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{block}\n\0").as_bytes()).unwrap();
        input.flush().unwrap();
        let (mut printed, mut line) = (String::new(), String::new());
        while self.output.read_line(&mut line).unwrap() > 0 {
            // The output before it may have no line end.
            if let Some((rest, _)) = line.split_once('\u{1}') {
                return printed + rest;
            }
            printed.push_str(&line);
            line.clear();
        }
        panic!("the commands end with an error:\n{block}\n{printed}");
    }
}

/// Ends what the shell started, too.
impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// A fenced block of a page.
struct Block<'a> {
    kind: &'a str,
    text: &'a str,
    /// The paragraph before it.
    before: &'a str,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let parts: Vec<&str> = page.split("```").collect();
    let inner = parts.iter().enumerate().skip(1).step_by(2);
    inner
        .map(|(index, block)| {
            let (kind, text) = block.split_once('\n').unwrap();
            let before = parts[index - 1].trim_end().rsplit("\n\n").next().unwrap();
            Block { kind, text, before }
        })
        .collect()
}

/// The file that a paragraph names in backquotes.
fn file_name(paragraph: &str) -> &str {
    let quoted = paragraph.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.contains('.') && !name.contains(' ')).last().unwrap()
}

/// Whether `printed` is what the page shows, where `…` stands for any text: within a line, or alone on it for any
/// number of lines.
fn is_shown(printed: &[&str], shown: &[&str]) -> bool {
    match (printed, shown) {
        ([], []) => true,
        (_, ["…", rest @ ..]) => (0..=printed.len()).any(|skipped| is_shown(&printed[skipped..], rest)),
        ([line, printed @ ..], [pattern, shown @ ..]) => {
            is_line(line.trim_end(), pattern.trim_end()) && is_shown(printed, shown)
        }
        _ => false,
    }
}

fn is_line(line: &str, pattern: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('…') else { return line == pattern };
    let Some(line) = line.strip_prefix(begin) else { return false };
    (0..=line.len()).filter(|at| line.is_char_boundary(*at)).any(|at| is_line(&line[at..], rest))
}

/// Saves the files of the page and runs its commands, in their order; holds what they print to what the page
/// shows. Returns the shell, with what was started in it.
fn walk(page: &str, dir: &Path, admin: SocketAddr, ready: &dyn Fn(&str)) -> Shell {
    let mut shell = Shell::start(dir, admin);
    let mut printed = String::new();
    for Block { kind, text, before } in blocks(page) {
        match kind {
            "sh" => {
                printed.clear();
                for command in text.replace("\\\n", "\u{2}").lines().map(|line| line.replace('\u{2}', "\\\n"))
                {
                    let stays =
                        STAYING.iter().find(|stays| command.split('#').next().unwrap().trim() == **stays);
                    if let Some(stays) = stays {
                        shell.run(&format!("{stays} >>log 2>&1 &"));
                        ready(stays);
                    } else if !command.starts_with("cargo install") {
                        printed.push_str(&shell.run(&command));
                    }
                }
            }
            "text" => {
                let [printed, shown] =
                    [&printed, text].map(|text| text.trim_end().lines().collect::<Vec<_>>());
                assert!(is_shown(&printed, &shown), "printed:\n{}\nshown:\n{text}", printed.join("\n"));
            }
            _ => {
                let folder = shell.run("pwd");
                fs::write(Path::new(folder.trim()).join(file_name(before)), text).unwrap();
            }
        }
    }
    shell
}

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}

#[test]
fn the_first_tutorial_does_what_it_prints() {
    let (public, admin, app) = (free_address(), free_address(), free_address());
    let page = page("docs/tutorial/first-gateway.md")
        .replace("127.0.0.1:8080", &public.to_string())
        .replace("127.0.0.1:3000", &app.to_string())
        .replace("\"127.0.0.1\", 3000", &format!("\"127.0.0.1\", {}", app.port()));
    let dir = tempfile::tempdir().unwrap();
    let clone = dir.path().join("clone");
    fs::create_dir(&clone).unwrap();
    let shell = walk(&page, &clone, admin, &|command| match command {
        "python3 app.py" => wait_until("the app listens", || TcpStream::connect(app).is_ok()),
        _ => {
            wait_until("it is ready", || get(admin, "/readyz", &[]).is_some_and(|reply| reply.status == 200))
        }
    });
    drop(shell);
    wait_until("it has stopped", || TcpStream::connect(public).is_err());
}

#[test]
fn the_first_configuration_of_the_readme_starts_as_it_is_printed() {
    let (public, admin) = (free_address(), free_address());
    let page = page("README.md").replace("127.0.0.1:8080", &public.to_string());
    let (_, page) = page.split_once("\n## Configure it\n").unwrap();
    let (page, _) = page.split_once("\nSessions are kept in a file.").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let _shell = walk(page, dir.path(), admin, &|_| {
        wait_until("it is ready", || get(admin, "/readyz", &[]).is_some_and(|reply| reply.status == 200));
    });
    let body = format!("{{\"username\":\"alice\",\"password\":\"{PASSWORD}\"}}");
    let fields = [("Content-Type", "application/json")];
    assert_eq!(request(public, "POST", "/auth/login", &fields, body.as_bytes()).unwrap().status, 200);
}

#[test]
fn a_page_that_shows_something_else_is_noticed() {
    for (printed, shown, expected) in [
        ("a\nb", "a\nb", true),
        ("a\nb", "a\nc", false),
        ("a 1 b", "a … b", true),
        ("a 1 c", "a … b", false),
        ("a\nx\ny\nb", "a\n…\nb", true),
        ("a\nx\ny", "a\n…", true),
        ("a", "a\nb", false),
        ("a\nb", "a", false),
    ] {
        let [lines, shown_lines] = [printed, shown].map(|text| text.lines().collect::<Vec<_>>());
        assert_eq!(is_shown(&lines, &shown_lines), expected, "{printed:?} {shown:?}");
    }
}
