//! Controllers as a table.

use tieline_proto::v1::ControllerInfo;

use super::Column::{Left, Right};
use super::quantity::{count, duration};
use super::{dashed, table};

/// Controllers, and what becomes of what they hold.
pub fn controllers(controllers: &[ControllerInfo]) -> String {
    let columns = [
        Left("NAME"),
        Right("RANK"),
        Left("SESSION"),
        Right("TERM"),
        Right("HELD"),
        Right("STALE"),
        Left("KEPT"),
        Left("SOFTWARE"),
    ];
    table(&columns, controllers.iter().map(row))
}

fn row(controller: &ControllerInfo) -> Vec<String> {
    let since = duration(controller.since_seconds);
    vec![
        controller.name.clone(),
        if controller.rank == 0 { "-".to_owned() } else { controller.rank.to_string() },
        if controller.connected { format!("for {since}") } else { format!("ended {since} ago") },
        controller.term.to_string(),
        count(controller.held),
        count(controller.stale),
        kept(controller),
        dashed(&controller.software),
    ]
}

/// A controller is forgotten.
pub fn forgotten(name: &str, withdrawn: u64) -> String {
    match withdrawn {
        0 => format!("{name} forgotten\n"),
        _ => format!("{name} forgotten, {} objects and routes withdrawn\n", count(withdrawn)),
    }
}

/// How long what it holds is kept.
fn kept(controller: &ControllerInfo) -> String {
    match (controller.lasting, controller.expires_in_seconds) {
        (true, _) => "until withdrawn".to_owned(),
        (false, 0) => "-".to_owned(),
        (false, seconds) => format!("for {}", duration(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_here_or_their_time_runs_out() {
        let here = ControllerInfo {
            name: "cluster-a".into(),
            connected: true,
            rank: 1,
            term: 7,
            held: 120_000,
            stale: 20,
            software: "tieline-federation 1.2".into(),
            since_seconds: 3_700,
            ..Default::default()
        };
        let gone = ControllerInfo {
            name: "b".into(),
            term: 7,
            held: 120_000,
            stale: 120_000,
            expires_in_seconds: 90,
            since_seconds: 5,
            ..ControllerInfo::default()
        };
        let operator = ControllerInfo {
            name: "operator".into(),
            lasting: true,
            held: 3,
            software: "tlctl 0.1.0".into(),
            ..Default::default()
        };
        assert_eq!(
            controllers(&[here, gone, operator]),
            "NAME       RANK  SESSION        TERM     HELD    STALE  KEPT             SOFTWARE\n\
             cluster-a     1  for 1 h 1 min     7  120,000       20  -                tieline-federation 1.2\n\
             b             -  ended 5 s ago     7  120,000  120,000  for 1 min 30 s   -\n\
             operator      -  ended 0 s ago     0        3        0  until withdrawn  tlctl 0.1.0\n"
        );
    }
}
