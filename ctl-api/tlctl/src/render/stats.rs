//! Counters of workers, ports, interfaces and VRFs, their rates between two
//! samples, and whether the packets balance.

use std::collections::{BTreeMap, VecDeque};

use tieline_proto::v1::{Balance, GetStatsReply, InterfaceStats, PortStats, VrfStats, WorkerStats};

use super::Column::{self, Left, Right};
use super::quantity::{bar, count, duration, rate, sparkline};
use super::{listed, table};

/// Samples in a history.
const HISTORY: usize = 20;
/// Fewest rows shown of a section that does not fit the screen.
const FEWEST_ROWS: usize = 3;

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// Width.
    pub columns: usize,
    /// Height.
    pub rows: usize,
}

/// Received packets per second of each worker over the last samples.
#[derive(Debug, Default)]
pub struct History {
    workers: BTreeMap<u32, VecDeque<f64>>,
}

impl History {
    /// Adds what happened between two samples.
    pub fn push(&mut self, before: &GetStatsReply, now: &GetStatsReply) {
        let span = Span::between(before, now);
        self.workers.retain(|id, _| now.workers.iter().any(|worker| worker.worker == *id));
        for pair in pairs(span, &before.workers, &now.workers, |worker| worker.worker) {
            let line = self.workers.entry(pair.new.worker).or_default();
            if line.len() == HISTORY {
                line.pop_front();
            }
            line.push_back(pair.per_second(|worker| worker.received_packets));
        }
    }
}

/// The time between two samples.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// In seconds; 0 when there are no rates: the daemon was started between
    /// the samples, or they are the same.
    seconds: f64,
}

impl Span {
    fn between(before: &GetStatsReply, now: &GetStatsReply) -> Self {
        let nanoseconds = now.uptime_nanoseconds.saturating_sub(before.uptime_nanoseconds);
        Self { seconds: nanoseconds as f64 / 1e9 }
    }
}

/// A thing in two samples.
struct Pair<'a, T> {
    span: Span,
    /// `None` when there are no rates.
    old: Option<&'a T>,
    new: &'a T,
}

/// All things of the newer sample, each with its older state by its key.
fn pairs<'a, T, K: Ord>(span: Span, before: &'a [T], now: &'a [T], key: fn(&'a T) -> K) -> Vec<Pair<'a, T>> {
    let olds: BTreeMap<K, &T> = before.iter().map(|old| (key(old), old)).collect();
    let old = |new| olds.get(&key(new)).copied().filter(|_| span.seconds > 0.0);
    now.iter().map(|new| Pair { span, old: old(new), new }).collect()
}

impl<T> Pair<'_, T> {
    /// How much a counter has grown; since its start when there are no rates.
    fn growth(&self, of: fn(&T) -> u64) -> u64 {
        of(self.new).saturating_sub(self.old.map_or(0, of))
    }

    /// Zero when there are no rates.
    fn per_second(&self, of: fn(&T) -> u64) -> f64 {
        self.old.map_or(0.0, |_| self.growth(of) as f64 / self.span.seconds)
    }

    /// A cell with a rate.
    fn rate(&self, of: fn(&T) -> u64) -> String {
        self.old.map_or_else(|| "-".to_owned(), |_| rate(self.per_second(of)))
    }

    /// A cell with the bit rate of a counter of bytes.
    fn bits(&self, of: fn(&T) -> u64) -> String {
        self.old.map_or_else(|| "-".to_owned(), |_| rate(8.0 * self.per_second(of)))
    }
}

/// A column, and what is in it.
type Field<T> = (Column, fn(&Pair<'_, T>) -> String);

fn columns<T>(fields: &[Field<T>]) -> Vec<Column> {
    fields.iter().map(|(column, _)| *column).collect()
}

fn cells<T>(fields: &[Field<T>], pair: &Pair<'_, T>) -> Vec<String> {
    fields.iter().map(|(_, cell)| cell(pair)).collect()
}

/// Everything, as far as it fits the screen. Interfaces and VRFs are cut to
/// the busiest.
pub fn stats(
    before: &GetStatsReply,
    now: &GetStatsReply,
    history: Option<&History>,
    screen: Option<Screen>,
) -> String {
    let span = Span::between(before, now);
    let head = format!("Up {}\n{}\n", duration(now.uptime_nanoseconds / 1_000_000_000), balance(now));
    let fixed = format!(
        "{head}\n{}\n{}",
        workers(span, &before.workers, &now.workers, history),
        ports(span, &before.ports, &now.ports)
    );
    let mut interfaces = interfaces(span, &before.interfaces, &now.interfaces);
    let mut vrfs = vrfs(span, &before.vrfs, &now.vrfs);
    if let Some(screen) = screen {
        // Of each of the two sections: an empty line, the headings, what was
        // cut. At the bottom the cursor has a line of its own.
        let left = screen.rows.saturating_sub(fixed.lines().count() + 2 * 3 + 1);
        let half = (left / 2).max(FEWEST_ROWS);
        let for_vrfs = half.max(left.saturating_sub(interfaces.len()));
        let for_interfaces = half.max(left.saturating_sub(vrfs.len()));
        interfaces.cut(for_interfaces);
        vrfs.cut(for_vrfs);
    }
    let text = format!("{fixed}{}{}", interfaces.draw(), vrfs.draw());
    match screen {
        None => text,
        Some(screen) => text
            .lines()
            .take(screen.rows.saturating_sub(1))
            .map(|line| line.chars().take(screen.columns).collect::<String>() + "\n")
            .collect(),
    }
}

/// A section whose rows may be cut, each with its rate.
struct Section {
    columns: Vec<Column>,
    rows: Vec<(f64, Vec<String>)>,
    cut: usize,
}

impl Section {
    /// Each row has the rate of `busyness`.
    fn new<T>(fields: &[Field<T>], pairs: &[Pair<'_, T>], busyness: fn(&T) -> u64) -> Self {
        let rows = pairs.iter().map(|pair| (pair.per_second(busyness), cells(fields, pair)));
        Self { columns: columns(fields), rows: rows.collect(), cut: 0 }
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    /// Keeps the `most` busiest rows, in their order.
    fn cut(&mut self, most: usize) {
        if self.rows.len() > most {
            self.cut = self.rows.len() - most;
            self.rows.sort_by(|a, b| b.0.total_cmp(&a.0));
            self.rows.truncate(most);
        }
    }

    fn draw(self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut text = format!("\n{}", table(&self.columns, self.rows.into_iter().map(|(_, row)| row)));
        if self.cut > 0 {
            text.push_str(&format!("and {} more that are less busy\n", count(self.cut as u64)));
        }
        text
    }
}

/// The balance and whether the two sides are equal.
fn balance(now: &GetStatsReply) -> String {
    let Some(b) = now.balance else { return "The daemon reports no balance.".to_owned() };
    let Balance { received, originated, transmitted, punted, consumed, dropped, in_flight } = b;
    let sum = |parts: &[u64]| parts.iter().map(|part| u128::from(*part)).sum::<u128>();
    let entered = sum(&[received, originated]);
    let left = sum(&[transmitted, punted, consumed, dropped, in_flight]);
    let verdict = match entered.cmp(&left) {
        std::cmp::Ordering::Equal => "balanced".to_owned(),
        std::cmp::Ordering::Greater => format!("NOT BALANCED: {} packets unaccounted for", entered - left),
        std::cmp::Ordering::Less => format!("NOT BALANCED: {} packets counted twice", left - entered),
    };
    format!(
        "Packets: {} received + {} originated = {} transmitted + {} punted + {} consumed + {} dropped \
         + {} in flight: {verdict}",
        count(received),
        count(originated),
        count(transmitted),
        count(punted),
        count(consumed),
        count(dropped),
        count(in_flight)
    )
}

fn workers(span: Span, before: &[WorkerStats], now: &[WorkerStats], history: Option<&History>) -> String {
    let fields: &[Field<WorkerStats>] = &[
        (Right("WORKER"), |pair| pair.new.worker.to_string()),
        (Right("CORE"), |pair| match pair.new.core {
            core if core < 0 => "-".to_owned(),
            core => core.to_string(),
        }),
        (Left("BUSY"), |pair| {
            bar(pair.growth(|worker| worker.busy_loops) as f64 / pair.growth(|worker| worker.loops) as f64)
        }),
        (Right("RX PKT/S"), |pair| pair.rate(|worker| worker.received_packets)),
        (Right("TX PKT/S"), |pair| pair.rate(|worker| worker.transmitted_packets)),
        (Right("DROP/S"), |pair| pair.rate(|worker| worker.dropped_packets)),
        (Right("RECEIVED"), |pair| count(pair.new.received_packets)),
        (Right("TRANSMITTED"), |pair| count(pair.new.transmitted_packets)),
        (Right("DROPPED"), |pair| count(pair.new.dropped_packets)),
        (Right("HANDED OVER"), |pair| count(pair.new.handed_over_packets)),
        (Right("SESSIONS"), |pair| {
            format!("{} of {}", count(pair.new.sessions), count(pair.new.session_capacity))
        }),
        (Right("TABLES"), |pair| format!("v{}", pair.new.table_version)),
        (Left("RX QUEUES"), |pair| listed(&pair.new.rx_queues)),
    ];
    let mut columns = columns(fields);
    if history.is_some() {
        columns.push(Left("RX PKT/S BEFORE"));
    }
    let rows = pairs(span, before, now, |worker| worker.worker).into_iter().map(|pair| {
        let mut row = cells(fields, &pair);
        if let Some(history) = history {
            let line = history.workers.get(&pair.new.worker);
            row.push(line.map(|line| sparkline(line.iter().copied())).unwrap_or_default());
        }
        row
    });
    table(&columns, rows)
}

fn ports(span: Span, before: &[PortStats], now: &[PortStats]) -> String {
    let fields: &[Field<PortStats>] = &[
        (Left("PORT"), |pair| pair.new.name.clone()),
        (Left("LINK"), |pair| if pair.new.link_up { "up" } else { "down" }.to_owned()),
        (Left("MAC"), |pair| pair.new.mac.clone()),
        (Right("RX PKT/S"), |pair| pair.rate(|port| port.rx_packets)),
        (Right("RX BIT/S"), |pair| pair.bits(|port| port.rx_bytes)),
        (Right("TX PKT/S"), |pair| pair.rate(|port| port.tx_packets)),
        (Right("TX BIT/S"), |pair| pair.bits(|port| port.tx_bytes)),
        (Right("RX PACKETS"), |pair| count(pair.new.rx_packets)),
        (Right("TX PACKETS"), |pair| count(pair.new.tx_packets)),
        (Right("RX MISSED"), |pair| count(pair.new.rx_missed)),
        (Right("RX ERRORS"), |pair| count(pair.new.rx_errors)),
        (Right("TX ERRORS"), |pair| count(pair.new.tx_errors)),
    ];
    let pairs = pairs(span, before, now, |port| port.name.as_str());
    table(&columns(fields), pairs.iter().map(|pair| cells(fields, pair)))
}

fn interfaces(span: Span, before: &[InterfaceStats], now: &[InterfaceStats]) -> Section {
    let fields: &[Field<InterfaceStats>] = &[
        (Left("INTERFACE"), |pair| pair.new.name.clone()),
        (Right("RX PKT/S"), |pair| pair.rate(|interface| interface.rx_packets)),
        (Right("RX BIT/S"), |pair| pair.bits(|interface| interface.rx_bytes)),
        (Right("TX PKT/S"), |pair| pair.rate(|interface| interface.tx_packets)),
        (Right("TX BIT/S"), |pair| pair.bits(|interface| interface.tx_bytes)),
        (Right("RX PACKETS"), |pair| count(pair.new.rx_packets)),
        (Right("TX PACKETS"), |pair| count(pair.new.tx_packets)),
        (Right("DROPPED"), |pair| count(pair.new.dropped_packets)),
    ];
    let pairs = pairs(span, before, now, |interface| interface.name.as_str());
    Section::new(fields, &pairs, |interface| interface.rx_packets.saturating_add(interface.tx_packets))
}

fn vrfs(span: Span, before: &[VrfStats], now: &[VrfStats]) -> Section {
    let fields: &[Field<VrfStats>] = &[
        (Left("VRF"), |pair| pair.new.name.clone()),
        (Right("PKT/S"), |pair| pair.rate(|vrf| vrf.packets)),
        (Right("BIT/S"), |pair| pair.bits(|vrf| vrf.bytes)),
        (Right("DROP/S"), |pair| pair.rate(|vrf| vrf.dropped_packets)),
        (Right("PACKETS"), |pair| count(pair.new.packets)),
        (Right("DROPPED"), |pair| count(pair.new.dropped_packets)),
        (Right("SESSIONS"), |pair| count(pair.new.sessions)),
        (Right("EVICTED"), |pair| {
            count(pair.new.sessions_evicted_for_share.saturating_add(pair.new.sessions_evicted_for_quota))
        }),
        (Right("IPV4 ROUTES"), |pair| count(pair.new.ipv4_routes)),
        (Right("IPV6 ROUTES"), |pair| count(pair.new.ipv6_routes)),
    ];
    Section::new(fields, &pairs(span, before, now, |vrf| vrf.name.as_str()), |vrf| vrf.packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, packets: u64) -> GetStatsReply {
        GetStatsReply {
            workers: vec![WorkerStats {
                worker: 0,
                core: 2,
                rx_queues: vec!["fabric0:0".into()],
                received_packets: packets,
                transmitted_packets: packets,
                busy_loops: 50 * seconds,
                loops: 100 * seconds,
                sessions: 3,
                session_capacity: 1000,
                table_version: 9,
                ..Default::default()
            }],
            ports: vec![PortStats {
                name: "fabric0".into(),
                mac: "02:00:00:00:00:01".into(),
                link_up: true,
                rx_packets: packets,
                rx_bytes: packets * 125,
                ..Default::default()
            }],
            interfaces: vec![InterfaceStats {
                name: "up".into(),
                rx_packets: packets,
                rx_bytes: packets * 125,
                ..Default::default()
            }],
            vrfs: vec![VrfStats {
                name: "red".into(),
                packets,
                ipv4_routes: 12,
                sessions_evicted_for_share: 3,
                sessions_evicted_for_quota: 2,
                ..Default::default()
            }],
            balance: Some(Balance { received: packets, transmitted: packets, ..Default::default() }),
            uptime_nanoseconds: seconds * 1_000_000_000,
        }
    }

    #[test]
    fn rates_are_made_of_two_samples() {
        assert_eq!(
            stats(&sample(10, 1000), &sample(12, 25_000), None, None),
            "Up 12 s\n\
             Packets: 25,000 received + 0 originated = 25,000 transmitted + 0 punted + 0 consumed \
             + 0 dropped + 0 in flight: balanced\n\
             \n\
             WORKER  CORE  BUSY              RX PKT/S  TX PKT/S  DROP/S  RECEIVED  TRANSMITTED  DROPPED  \
             HANDED OVER    SESSIONS  TABLES  RX QUEUES\n     \
             0     2  █████░░░░░  50 %     12.0k     12.0k       0    25,000       25,000        0  \
             \x20         0  3 of 1,000      v9  fabric0:0\n\
             \n\
             PORT     LINK  MAC                RX PKT/S  RX BIT/S  TX PKT/S  TX BIT/S  RX PACKETS  \
             TX PACKETS  RX MISSED  RX ERRORS  TX ERRORS\n\
             fabric0  up    02:00:00:00:00:01     12.0k     12.0M         0         0      25,000  \
             \x20        0          0          0          0\n\
             \n\
             INTERFACE  RX PKT/S  RX BIT/S  TX PKT/S  TX BIT/S  RX PACKETS  TX PACKETS  DROPPED\n\
             up            12.0k     12.0M         0         0      25,000           0        0\n\
             \n\
             VRF  PKT/S  BIT/S  DROP/S  PACKETS  DROPPED  SESSIONS  EVICTED  IPV4 ROUTES  IPV6 ROUTES\n\
             red  12.0k      0       0   25,000        0         0        5           12            0\n"
        );
    }

    #[test]
    fn a_restart_has_no_rates() {
        let text = stats(&sample(100, 1_000_000), &sample(1, 10), None, None);
        let row = text.lines().find(|line| line.starts_with("fabric0")).expect("the port");
        assert_eq!(row.split_whitespace().collect::<Vec<_>>()[3..8], ["-", "-", "-", "-", "10"]);
    }

    #[test]
    fn an_imbalance_is_named() {
        let with = |received, transmitted| {
            let balance = Some(Balance { received, transmitted, ..Default::default() });
            super::balance(&GetStatsReply { balance, ..Default::default() })
        };
        assert!(with(10, 7).ends_with("NOT BALANCED: 3 packets unaccounted for"));
        assert!(with(7, 10).ends_with("NOT BALANCED: 3 packets counted twice"));
        assert!(with(u64::MAX, u64::MAX).ends_with(": balanced"));
    }

    #[test]
    fn the_history_becomes_a_sparkline() {
        let mut history = History::default();
        for second in 1..=30 {
            let before = sample(second, 100 * second);
            let now = sample(second + 1, 100 * (second + 1));
            history.push(&before, &now);
        }
        let text = stats(&sample(30, 3000), &sample(31, 3100), Some(&history), None);
        assert!(text.contains(&"█".repeat(HISTORY)), "{text}");
        assert!(!text.contains(&"█".repeat(HISTORY + 1)), "{text}");
    }

    #[test]
    fn a_screen_shows_the_busiest() {
        let mut before = sample(1, 0);
        let mut now = sample(2, 0);
        for n in 0..100u64 {
            let interface = |packets| InterfaceStats {
                name: format!("if{n}"),
                rx_packets: packets,
                ..Default::default()
            };
            before.interfaces.push(interface(0));
            now.interfaces.push(interface(n));
        }
        let text = stats(&before, &now, None, Some(Screen { columns: 60, rows: 24 }));
        assert!(text.lines().count() < 24, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert!(text.contains("if99 ") && !text.contains("if5 "), "{text}");
        assert!(text.contains("red"), "the VRF still has its room: {text}");
        let tiny = stats(&before, &now, None, Some(Screen { columns: 1, rows: 1 }));
        assert_eq!(tiny, "");
    }
}
