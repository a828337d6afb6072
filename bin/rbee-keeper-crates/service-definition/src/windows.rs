//! Windows services, by WinSW: an XML file beside a copy of WinSW of the same name, which speaks to the service control manager in
//! place of a program that does not. Recovery, start at boot and the event log are the system's own.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::{Definition, Scope, Service, Tier, words};

/// Where the definition's text ends: what does not depend on it.
const END: &str = "  <log mode=\"roll-by-size\">
    <sizeThreshold>10240</sizeThreshold>
    <keepFiles>5</keepFiles>
  </log>
</service>
";

pub(crate) fn service(definition: &Definition) -> Service {
    let unit = format!("{}-{}", definition.name.as_str(), definition.tier.word());
    let run = |rest: &str| words(&format!("{unit}.exe {rest}"));
    Service {
        path: PathBuf::from(format!("{unit}.xml")),
        text: text(definition, &unit),
        install: vec![
            words(&format!("New-EventLog -LogName Application -Source {unit}")),
            run("install"),
            // Also an end with an error, which is no crash to Windows, is followed by a start.
            words(&format!("sc.exe failureflag {unit} 1")),
            run("start"),
        ],
        uninstall: vec![run("stop"), run("uninstall")],
        removed: vec![words(&format!("Remove-EventLog -Source {unit}"))],
        unit,
    }
}

fn text(definition: &Definition, unit: &str) -> String {
    let mut xml = "<service>\n".to_owned();
    let mut element = |name: &str, text: &str| {
        let _ = writeln!(xml, "  <{name}>{}</{name}>", escaped(text));
    };
    element("id", unit);
    element("name", unit);
    element("description", &definition.description);
    element("executable", &definition.program.to_string_lossy());
    element("arguments", &definition.args.iter().map(|arg| argument(arg)).collect::<Vec<_>>().join(" "));
    element("workingdirectory", &definition.home.to_string_lossy());
    element("startmode", "Automatic");
    element("delayedAutoStart", "true");
    element("priority", if definition.tier == Tier::Queen { "Normal" } else { "BelowNormal" });
    element("stoptimeout", &format!("{} sec", definition.stop_timeout.as_secs()));
    element("resetfailure", "1 hour");
    for (name, value) in &definition.env {
        let _ = writeln!(xml, "  <env name=\"{}\" value=\"{}\"/>", escaped(name), escaped(value));
    }
    // The last one holds for all that follow.
    for delay in ["1 sec", "10 sec", "60 sec"] {
        let _ = writeln!(xml, "  <onfailure action=\"restart\" delay=\"{delay}\"/>");
    }
    let account = match (definition.scope, &definition.run_as) {
        (_, Some(user)) => user,
        (Scope::System, None) => "NT AUTHORITY\\LocalService",
        (Scope::User, None) => "%USERNAME%",
    };
    let _ = writeln!(xml, "  <serviceaccount>\n    <username>{}</username>", escaped(account));
    xml.push_str("    <allowservicelogon>true</allowservicelogon>\n  </serviceaccount>\n");
    xml + END
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One argument of a Windows command line: quoted where needed; backslashes count double before a quote.
fn argument(text: &str) -> String {
    if !text.is_empty() && !text.contains([' ', '\t', '"']) {
        return text.to_owned();
    }
    let (mut quoted, mut backslashes) = ("\"".to_owned(), 0);
    for c in text.chars() {
        match c {
            '\\' => backslashes += 1,
            '"' => quoted.push_str(&"\\".repeat(backslashes + 1)),
            _ => {}
        }
        if c != '\\' {
            backslashes = 0;
        }
        quoted.push(c);
    }
    quoted + &"\\".repeat(backslashes) + "\""
}

#[cfg(test)]
mod tests {
    use roxmltree::{Document, Node};

    use super::*;
    use crate::tests::{definition, tricky};

    /// WinSW's elements that we may write.
    const SCHEMA: [&str; 15] = [
        "id",
        "name",
        "description",
        "executable",
        "arguments",
        "workingdirectory",
        "startmode",
        "delayedAutoStart",
        "priority",
        "stoptimeout",
        "resetfailure",
        "env",
        "onfailure",
        "serviceaccount",
        "log",
    ];

    /// SERV-08
    #[test]
    fn the_file_is_xml_with_known_elements_and_recovers() {
        for definition in [definition(Tier::Queen, Scope::System), definition(Tier::Hive, Scope::User), tricky()] {
            let service = service(&definition);
            let document = Document::parse(&service.text).unwrap();
            let children: Vec<Node<'_, '_>> = document.root_element().children().filter(Node::is_element).collect();
            let all = |name: &str| children.iter().filter(|child| child.tag_name().name() == name).collect::<Vec<_>>();
            for child in &children {
                assert!(SCHEMA.contains(&child.tag_name().name()), "{:?}", child.tag_name());
            }
            let text = |name: &str| all(name)[0].text().unwrap();
            assert_eq!(text("id"), service.unit);
            assert_eq!(text("description"), definition.description);
            assert_eq!(text("executable"), definition.program.to_str().unwrap());
            assert_eq!(text("startmode"), "Automatic");
            assert_eq!(all("env")[0].attribute("value"), definition.env.get("RBEE_HOME").map(String::as_str));
            let recovery: Vec<_> = all("onfailure").iter().map(|child| child.attribute("action")).collect();
            assert_eq!(recovery, [Some("restart"); 3]);
        }
    }

    /// SERV-08
    #[test]
    fn the_event_log_knows_it_and_forgets_it() {
        let service = service(&definition(Tier::Queen, Scope::System));
        assert_eq!(service.install[0].join(" "), "New-EventLog -LogName Application -Source rbee-queen");
        assert_eq!(service.removed[0].join(" "), "Remove-EventLog -Source rbee-queen");
        assert!(service.install.iter().any(|words| words.join(" ") == "sc.exe failureflag rbee-queen 1"));
    }

    #[test]
    fn arguments_are_quoted_as_windows_takes_them_apart() {
        for (text, quoted) in [
            ("run", "run"),
            ("", r#""""#),
            ("a b", r#""a b""#),
            (r"C:\x y\", r#""C:\x y\\""#),
            (r#"say "hi""#, r#""say \"hi\"""#),
            (r#"a\" b"#, r#""a\\\" b""#),
        ] {
            assert_eq!(argument(text), quoted);
        }
    }
}
