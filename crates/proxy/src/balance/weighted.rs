//! The same choice among endpoints of different weights. Where they are as good as each other, each
//! gets its share by weight; nothing here is reached where all weights are alike.

use model::route::balance::Method;

use super::{Load, cheaper, mix};

/// The place of the endpoint to take, as [`super::choose`] says it; `weight` is never 0.
pub(crate) fn choose(
    method: Method,
    count: usize,
    (load, weight): (impl Fn(usize) -> Option<Load>, impl Fn(usize) -> u32),
    (turn, drawn): (usize, u64),
) -> Option<usize> {
    let open = || {
        (0..count).filter_map(|place| load(place).map(|load| (place, load, weight(place)))).map(
            // A new endpoint's weight grows.
            |(place, load, weight)| (place, load, u64::from(weight) * u64::from(load.share)),
        )
    };
    match method {
        Method::RoundRobin => by_weight(open(), even(turn)),
        Method::LeastConnections => {
            let emptiest = open().map(|(_, load, weight)| fill(&load, weight)).reduce(f64::min)?;
            // Of those as empty as can be, by weight again: an idle app is no reason to ask one alone.
            by_weight(
                open().filter(|(_, load, weight)| fill(load, *weight) <= emptiest),
                even(turn),
            )
        }
        Method::Latency => {
            let [high, low] = [drawn >> 32, drawn & u64::from(u32::MAX)];
            let (first, second) = (by_weight(open(), high)?, by_weight(open(), low)?);
            // The share is in the draw already.
            let load = |place| load(place).map(|load| (place, Load { share: 1000, ..load }));
            cheaper(load(first), load(second))
        }
    }
}

fn fill(load: &Load, weight: u64) -> f64 {
    let weight = u32::try_from(weight.max(1)).unwrap_or(u32::MAX);
    f64::from(load.in_flight) / f64::from(weight)
}

/// Points that are spread evenly, however many are taken (a Weyl sequence); below 2³².
fn even(turn: usize) -> u64 {
    (u64::try_from(turn).unwrap_or(0).wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 32
}

/// The one a point below 2³² falls on when all lie side by side, each as long as its weight.
fn by_weight(all: impl Iterator<Item = (usize, Load, u64)> + Clone, point: u64) -> Option<usize> {
    let total: u64 = all.clone().map(|(_, _, weight)| weight).sum();
    let point = (u128::from(total) * u128::from(point)) >> 32;
    let mut end = 0;
    let mut places = all.map(|(place, _, weight)| {
        end += u128::from(weight);
        (place, end)
    });
    places.find(|(_, end)| point < *end).map(|(place, _)| place)
}

/// The place for a visitor who stays, as [`super::stay`] says it: each endpoint has as many visitors as
/// its weight says (weighted rendezvous).
pub(crate) fn stay(
    visitor: u64,
    count: usize,
    endpoint: impl Fn(usize) -> Option<(u64, u32)>,
) -> Option<usize> {
    let score = |(id, weight): (u64, u32)| {
        let drawn = u32::try_from(mix(visitor ^ mix(id)) >> 32).unwrap_or(u32::MAX);
        let drawn = (f64::from(drawn) + 1.0) / (f64::from(u32::MAX) + 2.0);
        f64::from(weight) / -drawn.ln()
    };
    let open = (0..count).filter_map(|place| endpoint(place).map(|own| (score(own), place)));
    open.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, place)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Draws;

    fn load(in_flight: u32, latency_us: f64) -> Load {
        Load { in_flight, latency_us, share: 1000 }
    }

    fn counts(method: Method, loads: &[(Option<Load>, u32)]) -> Vec<usize> {
        let draws = Draws::seeded(11);
        let mut counts = vec![0; loads.len()];
        for turn in 0..10_000 {
            let know = (|place: usize| loads[place].0, |place: usize| loads[place].1);
            let place = choose(method, loads.len(), know, (turn, draws.next()));
            counts[place.expect("one is open")] += 1;
        }
        counts
    }

    #[test]
    fn equals_share_by_weight() {
        for method in [Method::RoundRobin, Method::LeastConnections, Method::Latency] {
            let same = Some(load(0, 500.0));
            let got = counts(method, &[(same, 100), (same, 50), (same, 50)]);
            let even = [4500..5500, 2200..2800, 2200..2800];
            let all = got.iter().zip(&even).all(|(count, even)| even.contains(count));
            // Of two drawn the one in turn wins at equal cost: the heavier are drawn first as often.
            assert!(all, "{method:?} {got:?}");
            let canary = counts(method, &[(same, 100), (same, 5)]);
            assert!((300..700).contains(&canary[1]), "{method:?} {canary:?}");
            let closed = counts(method, &[(None, 1000), (same, 1)]);
            assert_eq!(closed, [0, 10_000]);
        }
        assert_eq!(choose(Method::Latency, 1, (|_| None, |_| 1), (1, 1)), None);
    }

    #[test]
    fn load_counts_beside_weight() {
        let got = counts(
            Method::LeastConnections,
            &[(Some(load(10, 0.0)), 100), (Some(load(6, 0.0)), 50)],
        );
        assert_eq!(got, [10_000, 0], "10 of 100 is less than 6 of 50");
        let slow = [(Some(load(1, 90_000.0)), 100), (Some(load(1, 1000.0)), 100), (None, 1)];
        let got = counts(Method::Latency, &slow);
        assert!((2000..3000).contains(&got[0]), "only where it is drawn twice: {got:?}");
        let young = Load { share: 100, ..load(0, 0.0) };
        let got = counts(Method::RoundRobin, &[(Some(young), 100), (Some(load(0, 0.0)), 50)]);
        assert!((1500..1800).contains(&got[0]), "10 beside 50: {got:?}");
    }

    #[test]
    fn visitors_stay_by_weight_and_few_move() {
        let place = |visitor: u64, weights: &[u32]| {
            let endpoint = |place: usize| {
                let id = u64::try_from(place).unwrap();
                (weights[place] > 0).then_some((id, weights[place]))
            };
            stay(mix(visitor), weights.len(), endpoint).unwrap()
        };
        let (mut counts, mut strangers) = ([0; 3], 0);
        for visitor in 0..10_000 {
            let before = place(visitor, &[100, 50, 50]);
            counts[before] += 1;
            let after = place(visitor, &[100, 50, 10]);
            strangers += u32::from(before != after && before != 2);
        }
        assert!((4700..5300).contains(&counts[0]), "{counts:?}");
        assert!((2300..2700).contains(&counts[1]), "{counts:?}");
        assert_eq!(strangers, 0, "only visitors of the one that lost weight move");
    }
}
