//! A *true problem*: one mistake in the invented shop, with its exception type, its stack and its transaction.
//!
//! Two problems never share their innermost function, so a grouping that looks at the in-app frames can tell all of
//! them apart, and whatever number of issues a server makes of them is comparable with the number of problems drawn.

use crate::random::SplitMix64;

use super::vocabulary::{APPLICATIONS, EXCEPTIONS, LAYERS, LIBRARY_FRAMES, NOUNS, SOURCE_LINES, VERBS};

/// Frames a stack has at least and at most, the cause's included.
const FRAMES: std::ops::RangeInclusive<u64> = 20..=34;
/// Source lines before and after the failing one in application frames, as SDKs send them.
const CONTEXT_LINES: usize = 5;
/// The same in library frames: fewer, which brings the mean event to 23 KB.
const CONTEXT_LINES_LIBRARY: usize = 2;
/// One problem in this many has an exception that caused it.
const ONE_IN_CHAINED: u64 = 4;
/// Streams of the problem seed that belong to library frames lie beyond any problem's number.
const LIBRARY_STREAM: u64 = 1 << 40;

/// Whose code a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Application,
    Library,
}

/// The part of a frame that is the same in all events of a problem.
#[derive(Debug, Clone)]
pub(super) struct FrameText {
    pub(super) module: String,
    pub(super) function: String,
    pub(super) filename: String,
    pub(super) line: u64,
    pub(super) before: Vec<String>,
    pub(super) failing: String,
    pub(super) after: Vec<String>,
    pub(super) owner: Owner,
}

/// An exception of a problem: its type and where it was raised, outermost frame first.
#[derive(Debug, Clone)]
pub(super) struct Raised {
    pub(super) kind: &'static str,
    pub(super) module: &'static str,
    pub(super) frames: Vec<FrameText>,
}

/// See the module documentation.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) transaction: String,
    pub(super) logger_app: &'static str,
    pub(super) verb: &'static str,
    pub(super) noun: &'static str,
    pub(super) release_minor: u64,
    pub(super) raised: Raised,
    pub(super) cause: Option<Raised>,
}

// === impl Problem ===

impl Problem {
    /// Problem number `index` of a seed.
    pub(super) fn new(seed: u64, index: u32) -> Self {
        let mut random = SplitMix64::stream(seed, u64::from(index));
        let verb = VERBS[index as usize % VERBS.len()];
        let noun = NOUNS[(index as usize / VERBS.len()) % NOUNS.len()];
        let generation = index as usize / (VERBS.len() * NOUNS.len());
        let innermost = match generation {
            0 => format!("{verb}_{noun}"),
            further => format!("{verb}_{noun}_v{further}"),
        };
        let app = random.pick(APPLICATIONS);
        let mut frames_left = random.within(FRAMES);
        let cause = random.one_in(ONE_IN_CHAINED).then(|| {
            let depth = random.within(3..=6);
            frames_left -= depth;
            let mut frames = library_stack(seed, LIBRARY_FRAMES.len() as u64 - depth, depth);
            frames.truncate(depth as usize);
            raised(&mut random, frames)
        });
        let own_frames = random.within(3..=6);
        let library_frames = (frames_left - own_frames).min(LIBRARY_FRAMES.len() as u64);
        let mut frames = library_stack(seed, 0, library_frames);
        for depth in 1..frames_left - library_frames {
            let function = format!("{}_{}", random.pick(VERBS), random.pick(NOUNS));
            frames.push(application_frame(&mut random, app, &function, depth));
        }
        frames.push(application_frame(&mut random, app, &innermost, 0));
        Self {
            transaction: format!("/{app}/{{{noun}_id}}/{verb}/"),
            logger_app: app,
            verb,
            noun,
            release_minor: random.within(0..=3),
            raised: raised(&mut random, frames),
            cause,
        }
    }
}

fn raised(random: &mut SplitMix64, frames: Vec<FrameText>) -> Raised {
    let (kind, module) = EXCEPTIONS[random.within(0..=EXCEPTIONS.len() as u64 - 1) as usize];
    Raised { kind, module, frames }
}

fn library_stack(seed: u64, first: u64, count: u64) -> Vec<FrameText> {
    (first..first + count)
        .filter_map(|position| LIBRARY_FRAMES.get(position as usize).map(|frame| (position, frame)))
        .map(|(position, &(module, function))| {
            let mut random = SplitMix64::stream(seed, LIBRARY_STREAM + position);
            frame(&mut random, module.to_owned(), function.to_owned(), Owner::Library)
        })
        .collect()
}

fn application_frame(random: &mut SplitMix64, app: &str, function: &str, depth: u64) -> FrameText {
    // The outermost own frame is a view; the layers below it vary.
    let layer = if depth == 1 { "views" } else { random.pick(LAYERS) };
    frame(random, format!("shop.{app}.{layer}"), function.to_owned(), Owner::Application)
}

fn frame(random: &mut SplitMix64, module: String, function: String, owner: Owner) -> FrameText {
    let context_lines = match owner {
        Owner::Application => CONTEXT_LINES,
        Owner::Library => CONTEXT_LINES_LIBRARY,
    };
    let mut lines = || (0..context_lines).map(|_| source_line(random)).collect::<Vec<_>>();
    let before = lines();
    let after = lines();
    FrameText {
        filename: format!("{}.py", module.replace('.', "/")),
        line: random.within(14..=900),
        failing: format!("    return self.{function}(request, *args, **kwargs)"),
        module,
        function,
        before,
        after,
        owner,
    }
}

fn source_line(random: &mut SplitMix64) -> String {
    random
        .pick(SOURCE_LINES)
        .replace("{v}", random.pick(VERBS))
        .replace("{n}", random.pick(NOUNS))
        .replace("{m}", random.pick(NOUNS))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn frame_count(problem: &Problem) -> usize {
        problem.raised.frames.len() + problem.cause.as_ref().map_or(0, |cause| cause.frames.len())
    }

    #[test]
    fn stacks_have_twenty_to_thirty_four_frames_and_some_are_chained() {
        let problems: Vec<Problem> = (0..300).map(|index| Problem::new(1, index)).collect();
        assert!(problems.iter().all(|problem| (20..=34).contains(&frame_count(problem))));
        let chained = problems.iter().filter(|problem| problem.cause.is_some()).count();
        assert!((40..120).contains(&chained), "{chained} of 300 are chained");
    }

    #[test]
    fn no_two_problems_share_their_innermost_frame() {
        let innermost: HashSet<String> = (0..3000)
            .filter_map(|index| Problem::new(1, index).raised.frames.pop())
            .map(|frame| frame.function)
            .collect();
        assert_eq!(innermost.len(), 3000);
    }
}
