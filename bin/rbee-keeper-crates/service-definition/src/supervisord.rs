//! supervisord's programs.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::{Definition, Refusal, Scope, Service, Tier, words};

pub(crate) fn service(definition: &Definition) -> Result<Service, Refusal> {
    let unit = format!("{}-{}", definition.name.as_str(), definition.tier.word());
    Ok(Service {
        path: PathBuf::from(format!("/etc/supervisor/conf.d/{unit}.conf")),
        text: text(definition, &unit)?,
        install: vec![words("supervisorctl reread"), words("supervisorctl update")],
        uninstall: vec![words(&format!("supervisorctl stop {unit}"))],
        removed: vec![words("supervisorctl reread"), words("supervisorctl update")],
        unit,
    })
}

fn text(definition: &Definition, unit: &str) -> Result<String, Refusal> {
    let program = definition.program.to_string_lossy().into_owned();
    let command = std::iter::once(&program).chain(&definition.args).map(|word| escaped(&shell_word(word)));
    let command: Vec<String> = command.collect();
    let mut text = format!("; {}\n[program:{unit}]\n", definition.description);
    let paths = [&definition.program, &definition.home].map(|path| path.to_string_lossy().into_owned());
    // There a comment begins, whatever quotes are around it.
    if let Some(text) = definition
        .args
        .iter()
        .chain(definition.env.values())
        .chain(&paths)
        .find(|text| text.contains(" ;") || text.contains(" #"))
    {
        return Err(Refusal::Unspeakable { manager: "supervisord", text: text.clone() });
    }
    let mut key = |name: &str, value: &str| {
        let _ = writeln!(text, "{name}={value}");
    };
    key("command", &command.join(" "));
    key("directory", &escaped(&definition.home.to_string_lossy()));
    let env: Vec<String> = definition
        .env
        .iter()
        .map(|(name, value)| Ok(format!("{name}={}", quoted(value)?)))
        .collect::<Result<_, _>>()?;
    if !env.is_empty() {
        key("environment", &env.join(","));
    }
    if let (Scope::System, Some(user)) = (definition.scope, &definition.run_as) {
        key("user", &escaped(user));
    }
    key("autostart", "true");
    // A crash is followed by a start, an end by intention is not; its back-off grows by a second each time.
    key("autorestart", "unexpected");
    key("exitcodes", "0");
    key("startsecs", "2");
    key("startretries", "30");
    key("stopsignal", "TERM");
    key("stopwaitsecs", &definition.stop_timeout.as_secs().to_string());
    // What it supervises is its own to stop, and goes on when it crashes.
    key("stopasgroup", "false");
    key("killasgroup", "false");
    // She is started last and stopped first.
    key("priority", if definition.tier == Tier::Queen { "20" } else { "10" });
    key("umask", "077");
    key("redirect_stderr", "true");
    key("stdout_logfile_maxbytes", "10MB");
    key("stdout_logfile_backups", "5");
    Ok(text)
}

/// supervisord fills in what follows a `%`; a `;` behind a space begins a comment.
fn escaped(text: &str) -> String {
    text.replace('%', "%%")
}

fn shell_word(text: &str) -> String {
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | ':' | '=' | ',' | '+' | '@' | '%');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r#"'"'"'"#))
}

/// A value of `environment`: there no sign is escaped, so that one kind of quotes has to be free.
fn quoted(text: &str) -> Result<String, Refusal> {
    let text = escaped(text);
    match (text.contains('"'), text.contains('\'')) {
        (false, _) => Ok(format!("\"{text}\"")),
        (true, false) => Ok(format!("'{text}'")),
        (true, true) => Err(Refusal::Unspeakable { manager: "supervisord", text }),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::tests::{definition, tricky};

    const READ: &str = "
import json, sys
from supervisor.options import ServerOptions
options = ServerOptions()
options.realize(['-c', sys.argv[1]])
[group] = options.process_group_configs
[program] = group.process_configs
import shlex
print(json.dumps([program.name, shlex.split(program.command), program.environment, program.directory, program.stopwaitsecs,
    program.autorestart.__name__, program.exitcodes, program.priority, program.stopasgroup], ensure_ascii=False))
";

    #[expect(clippy::disallowed_methods, reason = "asks the real parser")]
    fn read(definition: &Definition) -> Option<String> {
        // Debian's package belongs to Debian's Python, which need not be the first.
        let has_it = |python: &&str| {
            Command::new(python).args(["-c", "import supervisor"]).output().is_ok_and(|output| output.status.success())
        };
        let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_it) else {
            eprintln!("skipped: no Python here has supervisor to read the file");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("supervisord.conf");
        std::fs::write(&file, format!("[supervisord]\n\n{}", service(definition).unwrap().text)).unwrap();
        let read = Command::new(python).args(["-W", "ignore", "-c", READ]).arg(&file).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        Some(String::from_utf8(read.stdout).unwrap())
    }

    /// SERV-09
    #[test]
    fn supervisord_itself_reads_it_as_it_is_meant() {
        let queen = Definition { run_as: None, home: "/".into(), ..definition(Tier::Queen, Scope::System) };
        let Some(read_back) = read(&queen) else { return };
        insta::assert_snapshot!(read_back, @r#"["rbee-queen", ["/opt/rbee/queen-rbee", "run", "--without-hive"], {"RBEE_HOME": "/srv/bees"}, "/", 75, "RestartWhenExitUnexpected", [0], 20, false]"#);
    }

    /// SERV-09
    #[test]
    fn what_is_tricky_is_read_back_as_it_was() {
        let hive = Definition { run_as: None, home: "/".into(), ..tricky() };
        let Some(read_back) = read(&hive) else { return };
        insta::assert_snapshot!(read_back, @r#"["rbee-hive", ["/opt/my own 100%/$X/rbee-hive", "run", "--config", "/etc/a b\\c$HOME/é.toml"], {"RBEE_HOME": "/srv/it's 5% \\ of $X"}, "/", 75, "RestartWhenExitUnexpected", [0], 10, false]"#);
        for value in ["\"'", "a ;b", "a #b"] {
            let hive = Definition { env: [("A".to_owned(), value.to_owned())].into(), ..hive.clone() };
            assert!(matches!(service(&hive), Err(Refusal::Unspeakable { .. })), "{value}");
        }
    }
}
