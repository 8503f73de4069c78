//! Which endpoint gets the next request. Pure: what is known of the endpoints and a drawn number come
//! in, a place in the list comes out.

pub(crate) mod weighted;

use std::cell::Cell;

use model::route::balance::Method;

/// One core's turn counter.
#[derive(Debug, Default)]
pub(crate) struct Turns(Cell<usize>);

impl Turns {
    /// The next turn.
    pub(crate) fn next(&self) -> usize {
        self.0.set(self.0.get().wrapping_add(1));
        self.0.get()
    }
}

/// What is known of one endpoint that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) in_flight: u32,
    /// How long its answers took of late, in µs; 0 is not known yet.
    pub(crate) latency_us: f64,
    /// Its share beside the others', in thousandths: a new one's grows.
    pub(crate) share: u32,
}

/// As slow as an endpoint is taken for that has requests and never answered one.
const UNKNOWN_US: f64 = 1_000_000.0;

impl Load {
    /// What one more request there would cost.
    fn cost(&self) -> f64 {
        let latency = if self.latency_us > 0.0 {
            self.latency_us
        } else if self.in_flight == 0 {
            0.0
        } else {
            UNKNOWN_US
        };
        latency * f64::from(self.in_flight + 1) / f64::from(self.share.max(1))
    }

    fn fill(&self) -> f64 {
        f64::from(self.in_flight + 1) / f64::from(self.share.max(1))
    }
}

/// The place of the endpoint to take, among `count`; `load` says what is known of one, or nothing when
/// it may not be chosen. `turn` grows by one with each request of a core, `drawn` is any number.
pub(crate) fn choose(
    method: Method,
    count: usize,
    load: impl Fn(usize) -> Option<Load>,
    (turn, drawn): (usize, u64),
) -> Option<usize> {
    match count {
        0 => return None,
        1 => return load(0).map(|_| 0),
        _ => {}
    }
    let in_turn = (0..count).map(|step| (turn + step) % count);
    let mut open = in_turn.filter_map(|place| load(place).map(|load| (place, load)));
    match method {
        Method::RoundRobin => round(open, drawn),
        Method::LeastConnections => least(open),
        Method::Latency => {
            // Two of those that are open, whatever their number, without a list of them.
            let total = (0..count).filter(|place| load(*place).is_some()).count();
            if total <= 2 {
                return cheaper(open.next(), open.next());
            }
            let total = u64::try_from(total).unwrap_or(1);
            let first = drawn % total;
            let second = (first + 1 + (drawn >> 32) % (total - 1)) % total;
            let nth = |number: u64| {
                let mut open = (0..count).filter_map(|place| load(place).map(|load| (place, load)));
                open.nth(usize::try_from(number).unwrap_or(0))
            };
            cheaper(nth(first), nth(second))
        }
    }
}

fn cheaper(one: Option<(usize, Load)>, two: Option<(usize, Load)>) -> Option<usize> {
    match (one, two) {
        (Some((one, load)), Some((two, other))) => {
            // At equal cost the one in turn; at no cost at all the emptier one.
            let is_worse = (load.cost(), load.fill()) > (other.cost(), other.fill());
            Some(if is_worse { two } else { one })
        }
        (one, two) => one.or(two).map(|(place, _)| place),
    }
}

fn least(open: impl Iterator<Item = (usize, Load)>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (place, load) in open {
        if best.is_none_or(|(_, fill)| load.fill() < fill) {
            best = Some((place, load.fill()));
        }
    }
    best.map(|(place, _)| place)
}

/// The next in turn; one with less than its full share is sometimes left out.
fn round(open: impl Iterator<Item = (usize, Load)>, drawn: u64) -> Option<usize> {
    let mut last = None;
    for (step, (place, load)) in (0_u32..).zip(open) {
        if u64::from(load.share) > (drawn.rotate_right(step * 10)) % 1000 {
            return Some(place);
        }
        last = last.or(Some(place));
    }
    last
}

/// The place for a visitor who stays with one endpoint: the same one as long as it is open, and few
/// visitors move when endpoints come and go (highest random weight).
pub(crate) fn stay(
    visitor: u64,
    count: usize,
    endpoint: impl Fn(usize) -> Option<u64>,
) -> Option<usize> {
    let weight = |id: u64| mix(visitor ^ mix(id));
    let open = (0..count).filter_map(|place| endpoint(place).map(|id| (weight(id), place)));
    open.max().map(|(_, place)| place)
}

/// A number that looks like any other, always the same for the same one.
pub(crate) fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A latency's memory after one more answer: at once as slow as the slowest, and better again only with
/// time (peak EWMA), so that a replica that begins to stall is left alone by the next request already.
pub(crate) fn remember(before_us: f64, since_ms: u64, sample_us: f64) -> f64 {
    if sample_us >= before_us {
        return sample_us;
    }
    let kept = fade(since_ms);
    before_us * kept + sample_us * (1.0 - kept)
}

/// How much of a latency is still believed after so long.
pub(crate) fn fade(since_ms: u64) -> f64 {
    let since = f64::from(u32::try_from(since_ms).unwrap_or(u32::MAX));
    (-since / 10_000.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Draws;

    fn load(in_flight: u32, latency_us: f64) -> Load {
        Load { in_flight, latency_us, share: 1000 }
    }

    fn counts(method: Method, loads: &[Option<Load>], requests: usize, seed: u64) -> Vec<usize> {
        let draws = Draws::seeded(seed);
        let mut counts = vec![0; loads.len()];
        for turn in 0..requests {
            let place = choose(method, loads.len(), |place| loads[place], (turn, draws.next()));
            counts[place.expect("one is open")] += 1;
        }
        counts
    }

    const METHODS: [Method; 3] = [Method::Latency, Method::LeastConnections, Method::RoundRobin];

    #[test]
    fn what_is_not_open_is_never_chosen_and_equals_share_evenly() {
        for method in METHODS {
            for seed in 1..50 {
                let even = [Some(load(1, 500.0)); 4];
                for count in counts(method, &even, 4000, seed) {
                    assert!((800..1200).contains(&count), "{method:?} {count}");
                }
                let closed = [None, Some(load(9, 9e9)), None];
                assert_eq!(counts(method, &closed, 10, seed), [0, 10, 0]);
            }
            assert_eq!(choose(method, 2, |_| None, (1, 1)), None);
            assert_eq!(choose(method, 0, |_| None, (1, 1)), None);
        }
        let even = [Some(load(7, 1.0)), Some(load(0, 9.0)), Some(load(3, 0.0))];
        assert_eq!(counts(Method::RoundRobin, &even, 300, 1), [100, 100, 100]);
    }

    #[test]
    fn a_slow_one_gets_little_and_a_new_one_not_all() {
        let slow = [Some(load(1, 100_000.0)), Some(load(1, 1000.0)), Some(load(1, 1000.0))];
        let got = counts(Method::Latency, &slow, 3000, 7);
        assert_eq!(got[0], 0, "it loses every comparison: {got:?}");
        // Nothing is known of the second; once it has a request, it must answer first.
        let new = [Some(load(1, 1000.0)), Some(load(0, 0.0)), Some(load(1, 1000.0))];
        assert!(counts(Method::Latency, &new, 3000, 7)[1] > 1500);
        let new = [Some(load(1, 1000.0)), Some(load(1, 0.0)), Some(load(1, 1000.0))];
        assert_eq!(counts(Method::Latency, &new, 3000, 7)[1], 0);
        let busy = [Some(load(5, 1.0)), Some(load(4, 9.0)), Some(load(9, 0.0))];
        assert_eq!(counts(Method::LeastConnections, &busy, 10, 7), [0, 10, 0]);
    }

    #[test]
    fn requests_run_through_a_queue_spread_by_speed() {
        // Three servers, one ten times slower; each request stays for its server's time.
        let draws = Draws::seeded(3);
        let times = [10_000_u64, 1000, 1000];
        let mut ends: Vec<Vec<u64>> = vec![Vec::new(); 3];
        let mut latency = [0.0_f64; 3];
        let mut got = [0_u32; 3];
        for turn in 0..20_000_usize {
            let now = 400 * turn as u64;
            for place in 0..3 {
                let before = ends[place].len();
                ends[place].retain(|end| *end > now);
                if ends[place].len() < before {
                    let sample = times[place] as f64;
                    latency[place] = remember(latency[place], 1, sample);
                }
            }
            let know = |place: usize| {
                Some(load(u32::try_from(ends[place].len()).unwrap(), latency[place]))
            };
            let place = choose(Method::Latency, 3, know, (turn, draws.next())).unwrap();
            got[place] += 1;
            ends[place].push(now + times[place]);
        }
        assert!(got[0] < got[1] / 5 && got[0] > 0, "{got:?}");
        assert!(got[1].abs_diff(got[2]) < 3000, "{got:?}");
    }

    #[test]
    fn a_share_grows_what_an_endpoint_gets() {
        let young = |share| [Some(Load { share, ..load(0, 0.0) }), Some(load(0, 0.0))];
        let got = counts(Method::RoundRobin, &young(100), 2000, 5);
        assert!((50..250).contains(&got[0]), "{got:?}");
        let got = counts(Method::LeastConnections, &young(100), 100, 5);
        assert_eq!(got[0], 0, "{got:?}");
        let got = counts(Method::Latency, &young(100), 100, 5);
        assert_eq!(got[0], 0, "{got:?}");
    }

    #[test]
    fn a_visitor_stays_and_few_move() {
        let all: Vec<u64> = (1..=5).collect();
        let place = |visitor, all: &[u64]| {
            stay(visitor, all.len(), |place| Some(all[place])).map(|place| all[place])
        };
        let mut counts = [0; 6];
        let mut moved = 0;
        for visitor in 0..5000_u64 {
            let visitor = mix(visitor);
            let with = place(visitor, &all).unwrap();
            counts[usize::try_from(with).unwrap()] += 1;
            let without = place(visitor, &all[1..]).unwrap();
            moved += u32::from(without != with);
            assert!(with == 1 || without == with, "only the lost one's visitors move");
        }
        assert!(counts[1..].iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_eq!(moved, counts[1]);
    }

    #[test]
    fn a_latency_is_slow_at_once_and_forgiven_with_time() {
        assert_eq!(remember(100.0, 1, 900.0), 900.0);
        let soon = remember(900.0, 10, 100.0);
        let late = remember(900.0, 30_000, 100.0);
        assert!(soon > 890.0 && late < 150.0, "{soon} {late}");
    }
}
