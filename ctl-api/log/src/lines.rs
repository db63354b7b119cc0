//! How a line of the log looks, and which lines there are.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::limit::{Limit, Place, Verdict};

/// Lines as `tracing-subscriber` writes them, with a [limit](crate::limit) on
/// those that somebody outside can cause. Whoever asks for details, with `debug`
/// or `trace`, gets all of them.
#[derive(Debug)]
pub struct Lines {
    format: Format,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    limit: Limit,
    /// Where places are, once something of them was left out.
    names: HashMap<Place, &'static Metadata<'static>>,
}

impl Default for Lines {
    fn default() -> Self {
        Self { format: Format::default(), start: Instant::now(), state: Mutex::default() }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return self.format.format_event(context, writer, event);
        }
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        let place = place_of(metadata);
        let now = self.start.elapsed();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = state.limit.admit(place, &text, now);
        if verdict == Verdict::LeaveOut {
            state.names.insert(place, metadata);
        }
        for place in state.limit.due(now) {
            state.tell_left_out(&mut writer, place)?;
        }
        if verdict == Verdict::LeaveOut {
            return Ok(());
        }
        state.tell_left_out(&mut writer, place)?;
        drop(state);
        self.format.format_event(context, writer, event)
    }
}

impl State {
    /// Says how many lines of a place were left out.
    fn tell_left_out(&mut self, writer: &mut Writer<'_>, place: Place) -> fmt::Result {
        let Some(lines) = self.limit.take_left_out(place) else { return Ok(()) };
        let Some(metadata) = self.names.remove(&place) else { return Ok(()) };
        write!(writer, "(left out: {lines} lines of {}", metadata.target())?;
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            write!(writer, ", {file}:{line}")?;
        }
        writeln!(writer, ", that came too often)")
    }
}

/// The number of a place: where its description stands in memory.
fn place_of(metadata: &Metadata<'static>) -> Place {
    std::ptr::from_ref(metadata).addr() as u64
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Paper {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn logged(work: impl FnOnce()) -> String {
        let paper = Paper::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_writer(paper.clone())
            .with_ansi(false)
            .event_format(Lines::default())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = paper.0.lock().expect("nobody panicked").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_flood_is_cut_and_said_and_what_comes_seldom_is_whole() {
        let text = logged(|| {
            for attempt in 0..10_000 {
                tracing::warn!(peer = "red", attempt, "BGP session down");
            }
            tracing::error!("something else");
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 21, "{text}");
        assert!(lines[0].contains("WARN") && lines[0].contains("peer=\"red\" attempt=0"), "{text}");
        assert!(lines[20].contains("something else"), "{text}");
    }

    #[test]
    fn the_next_line_tells_of_those_before() {
        let text = logged(|| {
            for peer in ["red", "red", "blue"] {
                for _ in 0..100 {
                    tracing::info!(peer, "up");
                }
            }
        });
        let told: Vec<_> = text.lines().filter(|line| line.starts_with("(left out: ")).collect();
        assert_eq!(told.len(), 1, "{text}");
        assert!(told[0].starts_with("(left out: 180 lines of tieline_log::lines::tests, "), "{text}");
    }

    #[test]
    fn details_that_were_asked_for_are_all_there() {
        let text = logged(|| (0..1000).for_each(|_| tracing::debug!("a detail")));
        assert_eq!(text.lines().count(), 1000);
    }
}
