//! How sections share a budget: their minimums first, then by priority, evenly among equals. It knows
//! nothing of what is in a section.

/// What a section wants.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Claim {
    /// What all of it takes.
    pub(in super::super) needs: u64,
    /// What it gets in any case, if it needs as much.
    pub(in super::super) min: u64,
    /// What it gets at most.
    pub(in super::super) max: u64,
    pub(in super::super) priority: i32,
}

impl Claim {
    /// The most that it can use.
    pub(in super::super) fn most(&self) -> u64 {
        self.needs.min(self.max)
    }
}

/// What each gets.
///
/// # Errors
/// The sum of the minimums, if it is more than the budget.
pub(in super::super) fn share(budget: u64, claims: &[Claim]) -> Result<Vec<u64>, u64> {
    let mut shares: Vec<u64> = claims.iter().map(|claim| claim.min.min(claim.most())).collect();
    let minimums = shares.iter().fold(0_u64, |sum, share| sum.saturating_add(*share));
    let mut left = budget.checked_sub(minimums).ok_or(minimums)?;
    for equals in by_priority(claims) {
        let mut hungry = equals;
        loop {
            hungry.retain(|index| shares[*index] < claims[*index].most());
            let Ok(count) = u64::try_from(hungry.len()) else { break };
            if count == 0 || left == 0 {
                break;
            }
            // With less than one token for each, the first ones get it.
            let each = (left / count).max(1);
            for index in &hungry {
                let more = each.min(claims[*index].most() - shares[*index]).min(left);
                shares[*index] += more;
                left -= more;
            }
        }
    }
    Ok(shares)
}

/// The positions, those of the highest priority first.
pub(in super::super) fn by_priority(claims: &[Claim]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(claims[*index].priority));
    order
        .chunk_by(|a, b| claims[*a].priority == claims[*b].priority)
        .map(<[usize]>::to_vec)
        .collect()
}
