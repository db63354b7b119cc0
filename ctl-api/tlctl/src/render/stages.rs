//! Where the workers' cycles go, by stage of the pipeline.

use tieline_proto::v1::{GetStageStatsReply, StageStats, WorkerStages};

use super::Column::{Left, Right};
use super::quantity::{bar, rate};
use super::{dashed, table};

/// Workers side by side in one table; more would not fit a terminal.
const SIDE_BY_SIDE: usize = 2;
/// A heading.
const CYCLES: &str = "CYCLES/PKT";
/// The stages by which packets come into a worker.
const ENTRANCES: [&str; 2] = ["receive", "handover"];

/// What was added between two samples. If the daemon was started anew in
/// between, that is everything since its start.
pub fn between(before: &GetStageStatsReply, mut now: GetStageStatsReply) -> GetStageStatsReply {
    if now.uptime_nanoseconds < before.uptime_nanoseconds {
        return now;
    }
    now.uptime_nanoseconds -= before.uptime_nanoseconds;
    for worker in &mut now.workers {
        let Some(old) = before.workers.iter().find(|old| old.worker == worker.worker) else { continue };
        worker.idle_cycles = worker.idle_cycles.saturating_sub(old.idle_cycles);
        for stage in &mut worker.stages {
            let Some(old) = old.stages.iter().find(|old| old.stage == stage.stage) else { continue };
            stage.cycles = stage.cycles.saturating_sub(old.cycles);
            stage.bursts = stage.bursts.saturating_sub(old.bursts);
            stage.packets = stage.packets.saturating_sub(old.packets);
        }
    }
    now
}

/// The load of each worker, then its stages.
pub fn stages(reply: &GetStageStatsReply) -> String {
    let seconds = reply.uptime_nanoseconds as f64 / 1e9;
    let clock = match reply.cycles_per_second {
        0 => "this processor has no clock that counts cycles".to_owned(),
        hertz => format!("{} cycles a second", rate(hertz as f64)),
    };
    let mut text = format!("{seconds:.2} s, {clock}\n\n{}", loads(reply, seconds));
    for workers in reply.workers.chunks(SIDE_BY_SIDE) {
        text.push_str(&format!("\n{}", side_by_side(workers)));
    }
    text
}

fn loads(reply: &GetStageStatsReply, seconds: f64) -> String {
    let columns = [Right("WORKER"), Left("BUSY"), Right("PKT/S"), Right(CYCLES), Right("PKT/BURST")];
    let rows = reply.workers.iter().map(|worker| {
        let busy = busy_cycles(worker);
        let entrances = || worker.stages.iter().filter(|stage| ENTRANCES.contains(&stage.stage.as_str()));
        let packets = entrances().map(|stage| stage.packets).sum::<u64>();
        let bursts = entrances().map(|stage| stage.bursts).sum::<u64>();
        vec![
            worker.worker.to_string(),
            bar(busy as f64 / busy.saturating_add(worker.idle_cycles) as f64),
            rate(packets as f64 / seconds),
            quotient(busy, packets),
            quotient(packets, bursts),
        ]
    });
    table(&columns, rows)
}

/// One row for each stage, one block of columns for each worker.
fn side_by_side(workers: &[WorkerStages]) -> String {
    let mut columns = vec![Left("STAGE")];
    for _ in workers {
        columns.extend([Right(CYCLES), Right("PKT/BURST"), Left("SHARE")]);
    }
    let Some(first) = workers.first() else { return String::new() };
    let rows = first.stages.iter().map(|stage| {
        let mut row = vec![stage.stage.clone()];
        for worker in workers {
            let found = worker.stages.iter().find(|other| other.stage == stage.stage);
            row.extend(cells(found, busy_cycles(worker)));
        }
        row
    });
    let table = table(&columns, rows);
    format!("{}\n{table}", captions(workers, &table))
}

/// The workers' names, each above its first column.
fn captions(workers: &[WorkerStages], table: &str) -> String {
    let headings = table.lines().next().unwrap_or_default();
    let mut line = String::new();
    for (worker, (at, _)) in workers.iter().zip(headings.match_indices(CYCLES)) {
        line = format!("{line:<at$}worker {}", worker.worker);
    }
    line
}

fn cells(stage: Option<&StageStats>, busy: u64) -> [String; 3] {
    match stage {
        Some(stage) if stage.cycles > 0 || stage.packets > 0 => [
            quotient(stage.cycles, stage.packets),
            quotient(stage.packets, stage.bursts),
            bar(stage.cycles as f64 / busy as f64),
        ],
        _ => [dashed(""), dashed(""), bar(0.0)],
    }
}

fn busy_cycles(worker: &WorkerStages) -> u64 {
    worker.stages.iter().fold(0, |sum, stage| sum.saturating_add(stage.cycles))
}

/// With one decimal; a dash when there is nothing to divide by.
fn quotient(dividend: u64, divisor: u64) -> String {
    if divisor == 0 { dashed("") } else { format!("{:.1}", dividend as f64 / divisor as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str, cycles: u64, bursts: u64, packets: u64) -> StageStats {
        StageStats { stage: name.into(), cycles, bursts, packets }
    }

    fn sample(seconds: u64) -> GetStageStatsReply {
        let worker = |worker, load: u64| WorkerStages {
            worker,
            idle_cycles: (1000 - load) * seconds,
            stages: vec![
                stage("receive", load * seconds / 2, seconds, 2 * seconds),
                stage("handover", 0, 0, 0),
                stage("parse", load * seconds / 4, seconds, 2 * seconds),
                stage("housekeeping", load * seconds / 4, 0, 0),
            ],
        };
        GetStageStatsReply {
            cycles_per_second: 1000,
            uptime_nanoseconds: seconds * 1_000_000_000,
            workers: vec![worker(0, 500), worker(1, 100), worker(2, 0)],
        }
    }

    #[test]
    fn a_difference_leaves_what_came_between() {
        assert_eq!(between(&sample(10), sample(12)), sample(2));
    }

    #[test]
    fn after_a_restart_everything_is_new() {
        assert_eq!(between(&sample(10), sample(3)), sample(3));
    }

    #[test]
    fn a_worker_that_was_not_there_before_is_all_new() {
        let mut before = sample(10);
        before.workers.remove(1);
        let shown = between(&before, sample(12));
        assert_eq!(shown.workers[1], sample(12).workers[1]);
        assert_eq!(shown.workers[2], sample(2).workers[2]);
    }

    #[test]
    fn loads_come_first_then_two_workers_side_by_side() {
        assert_eq!(
            stages(&sample(2)),
            "2.00 s, 1.00k cycles a second\n\
             \n\
             WORKER  BUSY              PKT/S  CYCLES/PKT  PKT/BURST\n     \
             0  █████░░░░░  50 %      2       250.0        2.0\n     \
             1  █░░░░░░░░░  10 %      2        50.0        2.0\n     \
             2  ░░░░░░░░░░   0 %      2         0.0        2.0\n\
             \n\
             \x20             worker 0                                 worker 1\n\
             STAGE         CYCLES/PKT  PKT/BURST  SHARE             CYCLES/PKT  PKT/BURST  SHARE\n\
             receive            125.0        2.0  █████░░░░░  50 %        25.0        2.0  █████░░░░░  50 %\n\
             handover               -          -  ░░░░░░░░░░   0 %           -          -  ░░░░░░░░░░   0 %\n\
             parse               62.5        2.0  ███░░░░░░░  25 %        12.5        2.0  ███░░░░░░░  25 %\n\
             housekeeping           -          -  ███░░░░░░░  25 %           -          -  ███░░░░░░░  25 %\n\
             \n\
             \x20             worker 2\n\
             STAGE         CYCLES/PKT  PKT/BURST  SHARE\n\
             receive              0.0        2.0  ░░░░░░░░░░   0 %\n\
             handover               -          -  ░░░░░░░░░░   0 %\n\
             parse                0.0        2.0  ░░░░░░░░░░   0 %\n\
             housekeeping           -          -  ░░░░░░░░░░   0 %\n"
        );
    }

    #[test]
    fn without_a_clock_there_are_packets_but_no_load() {
        let reply = GetStageStatsReply {
            cycles_per_second: 0,
            uptime_nanoseconds: 1_000_000_000,
            workers: vec![WorkerStages {
                worker: 0,
                idle_cycles: 0,
                stages: vec![stage("receive", 0, 1, 4)],
            }],
        };
        let text = stages(&reply);
        assert!(text.starts_with("1.00 s, this processor has no clock that counts cycles\n"), "{text}");
        assert!(text.contains("\nreceive         0.0        4.0  ░"), "{text}");
    }
}
