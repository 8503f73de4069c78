//! The retry budget: second tries must not turn an ailing app's load into twice its load.

use std::cell::RefCell;

use model::id::AppId;

use crate::by_id::ById;

/// How many second tries an app may have on this core: a fifth of its requests and ten a second.
#[derive(Debug, Default)]
pub(crate) struct Budgets(RefCell<ById<AppId, Budget>>);

#[derive(Debug, Default)]
struct Budget {
    fifths: u64,
    second: u64,
    spent: u64,
}

const MOST_SAVED: u64 = 500;
const PER_SECOND: u64 = 10;

impl Budgets {
    pub(crate) fn deposit(&self, app: AppId) {
        let mut budgets = self.0.borrow_mut();
        let budget = budgets.entry(app).or_default();
        budget.fifths = (budget.fifths + 1).min(MOST_SAVED);
    }

    pub(crate) fn withdraw(&self, app: AppId, now_ms: u64) -> bool {
        let mut budgets = self.0.borrow_mut();
        let budget = budgets.entry(app).or_default();
        let second = now_ms / 1000;
        if budget.second != second {
            (budget.second, budget.spent) = (second, 0);
        }
        if budget.spent < PER_SECOND {
            budget.spent += 1;
            return true;
        }
        let can_pay = budget.fifths >= 5;
        budget.fifths = budget.fifths.saturating_sub(5);
        can_pay
    }
}
