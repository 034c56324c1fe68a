// SPDX-License-Identifier: GPL-2.0

//! What `--json` prints without a device is what the schema says. The scenario `tool` checks
//! what it prints with one.

mod schema;

use schema::Schema;
use serde_json::{
    json,
    Value, //
};
use std::process::{
    Command,
    Stdio, //
};
use vfio_mig::{
    conformance::runner::{
        Outcome,
        Status,
        Summary, //
    },
    doctor::{
        self,
        report::Check, //
    },
    fuzz,
    host::Host,
    hwtest,
    migrate,
    precopy,
    remote,
    stress, //
};

const ABSENT: &str = "ffff:ff:1f.7";

fn tool(args: &[&str]) -> (Vec<Value>, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let objects = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (objects.collect(), output.status.code())
}

#[test]
fn results_are_what_the_schema_says() {
    let schema = Schema::new().unwrap();
    for args in [
        &["list", "--json"][..],
        &["--json", "test", "--list"],
        &["--json", "test", "--list", "--only", "feature"],
        &["--json", "test", "--check-quotes", "/dev/null"],
        &["--json", "doctor"],
    ] {
        let (objects, _) = tool(args);
        let [object] = &objects[..] else {
            panic!("{args:?}: {objects:?}");
        };
        assert!(object.get("result").is_some(), "{object}");
        schema.check(object).unwrap();
    }
}

#[test]
fn errors_are_what_the_schema_says() {
    let schema = Schema::new().unwrap();
    for (args, command) in [
        (&["--json"][..], Value::Null),
        (&["--json", "nosuch"], Value::Null),
        (&["--json", "--nosuch", "info"], json!("info")),
        (&["--json", "info"], json!("info")),
        (&["info", "--json", ABSENT], json!("info")),
        (&["--json", "state", ABSENT, "STOP"], json!("state")),
        (&["--json", "save", ABSENT, "/dev/null"], json!("save")),
        (&["--json", "load", ABSENT, "/no/such/file"], json!("load")),
        (&["--json", "migrate", ABSENT, ABSENT], json!("migrate")),
        (
            &["--json", "receive", ABSENT, "--listen", "x"],
            json!("receive"),
        ),
        (&["--json", "watch", ABSENT, "--count", "0"], json!("watch")),
        (&["--json", "dirty", ABSENT], json!("dirty")),
        (&["--json", "test", ABSENT], json!("test")),
        (&["--json", "stress", ABSENT], json!("stress")),
        (&["--json", "fuzz", ABSENT], json!("fuzz")),
    ] {
        let (objects, status) = tool(args);
        let [object] = &objects[..] else {
            panic!("{args:?}: {objects:?}");
        };
        schema.check(object).unwrap();
        assert_eq!(object["command"], command, "{args:?}");
        assert_eq!(object["error"]["status"].as_i64(), status.map(i64::from));
    }
    let (objects, _) = tool(&["--json", "load", ABSENT, "/no/such/file"]);
    assert_eq!(objects[0]["error"]["errno_name"], "ENOENT");
}

/// Reports of commands that need a device, with something in each list and map.
#[test]
fn reports_are_what_the_schema_says() {
    let phase = migrate::Phase {
        name: "save and load",
        ms: 0.5,
        bytes: 3,
    };
    let stop_copy = migrate::Report {
        bytes: 3,
        phases: vec![phase],
        sha256: None,
    };
    let pre_copy = precopy::Report {
        info: precopy::InfoVersion::V2,
        rounds: 2,
        reinits: 1,
        precopy_ms: 1.5,
        precopy_bytes: 3,
        downtime_ms: 0.0,
        downtime_bytes: 4,
        downtime_load_ms: 0.1,
        free_ms: 2.0,
        sha256: Some("00".repeat(32)),
    };
    let with_method = |report: Value, method: &str| {
        let mut report = report;
        report["method"] = json!(method);
        report
    };
    let migrations = [
        with_method(json!(stop_copy), "stop-copy"),
        with_method(json!(pre_copy), "pre-copy"),
    ];
    let received = remote::Received {
        from: "192.0.2.1:4444".to_string(),
        bytes: 3,
        sha256: "00".repeat(32),
    };
    let outcome = |status| Outcome {
        name: "feature.probe".to_string(),
        line: Some(1),
        quote: "",
        status,
        message: String::new(),
        ms: 1.0,
    };
    let outcomes = [Status::Pass, Status::Fail, Status::Known, Status::Skip].map(outcome);
    let mut summary = Summary::default();
    summary.add(Status::Known);
    let mut fuzzed = fuzz::Done::default();
    fuzzed.kinds.insert("reset", fuzz::Made::default());
    fuzzed.arcs.insert("STOP -> RUNNING".to_string(), 1);
    let mut fuzzed = json!(fuzzed);
    fuzzed["coverage"] = json!(fuzz::Guide::open(None).unwrap().report());
    let check = Check::missing("adapter", "none")
        .say("plug one in")
        .run("poweroff");
    let function = doctor::report::Function {
        vf: ABSENT.to_string(),
        driver: Some("vfio-pci".to_string()),
        migratable: Some(false),
        msix_vectors: Some(12),
    };
    let adapter = doctor::report::Adapter {
        pf: ABSENT.to_string(),
        vfs: vec![function],
        ..Default::default()
    };
    let examined = doctor::report::Report::new(&Host::this(), vec![check], vec![adapter]);
    let tested = hwtest::Outcome {
        name: "stop-copy",
        assumed: "nothing",
        figures: hwtest::Figures::new(),
        error: Some("it has failed".to_string()),
        errno: Some(5),
        ms: 1.5,
    };

    let schema = Schema::new().unwrap();
    for (command, result) in [
        ("migrate", json!({ "migrations": migrations })),
        ("receive", json!(received)),
        (
            "test",
            json!({ "summary": summary, "tests": outcomes, "skipped": null }),
        ),
        ("stress", json!(stress::Done::default())),
        ("fuzz", fuzzed),
        ("doctor", json!(examined)),
        (
            "hwtest",
            json!({
                "vfs": [ABSENT],
                "doctor": examined,
                "outcomes": [tested],
                "interrupted": "SIGINT",
                "not_done": ["trackers"],
            }),
        ),
        (
            "bind",
            json!({
                "dry_run": true,
                "steps": ["echo > driver_override"],
                "vfs": [{ "device": ABSENT, "driver": null }],
            }),
        ),
    ] {
        let object = json!({ "version": 1, "command": command, "result": result });
        schema.check(&object).unwrap();
    }
}

#[test]
fn each_command_is_in_the_schema() {
    let schema: Value = serde_json::from_str(schema::TEXT).unwrap();
    let defs = schema["$defs"].as_object().unwrap();
    let mut described = Vec::new();
    for command in defs.values().map(|def| &def["properties"]["command"]) {
        let several = command["enum"].as_array().cloned().unwrap_or_default();
        let all = several.iter().chain(command.get("const"));
        described.extend(all.filter_map(Value::as_str).map(str::to_string));
    }
    // These print what is for other programs, also with --json.
    described.extend(["completions", "schema", "man", "help"].map(str::to_string));
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    let help = command.arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    for line in list.lines().take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().unwrap();
        assert!(described.iter().any(|one| one == name), "{name}");
    }
}

#[test]
fn the_tool_prints_the_schema() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    let printed = command.arg("schema").output().unwrap().stdout;
    let printed: Value = serde_json::from_slice(&printed).unwrap();
    assert_eq!(
        printed,
        serde_json::from_str::<Value>(schema::TEXT).unwrap()
    );
}

#[test]
fn what_is_wrong_is_found() {
    let schema = Schema::new().unwrap();
    let with = |result: Value| json!({ "version": 1, "command": "save", "result": result });
    schema.check(&with(json!({ "bytes": 1 }))).unwrap();
    for wrong in [
        with(json!({ "bytes": -1 })),
        with(json!({ "bytes": "1" })),
        with(json!({ "bytes": 1.5 })),
        with(json!({ "bytes": null })),
        with(json!({})),
        with(json!({ "bytes": 1, "more": 1 })),
        json!({ "version": 2, "command": "save", "result": { "bytes": 1 } }),
        json!({ "version": 1, "command": "list", "result": { "bytes": 1 } }),
        json!({ "version": 1, "command": "save" }),
        json!([]),
    ] {
        schema.check(&wrong).unwrap_err();
    }
}
