//! The rank of a sparse matrix over the circuit's field, exactly.

use std::collections::{BTreeMap, BTreeSet};

use ff::Field;
use pasta_curves::pallas::Base;

/// The rank of the matrix with these rows. Eliminates by the column that the fewest rows have, in the shortest of them, so
/// that little fills in: the matrix of a circuit is a set of chains.
pub(super) fn rank<C: Copy + Ord>(mut rows: Vec<BTreeMap<C, Base>>) -> usize {
    let mut users: BTreeMap<C, BTreeSet<usize>> = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        for column in row.keys() {
            users.entry(*column).or_default().insert(number);
        }
    }
    let mut queue: BTreeSet<(usize, C)> = users.iter().map(|(column, rows)| (rows.len(), *column)).collect();
    let mut rank = 0;
    while let Some((_, column)) = queue.pop_first() {
        let using = users.remove(&column).expect("a column that is left");
        let Some(pivot) = using.iter().copied().min_by_key(|row| rows[*row].len()) else { continue };
        rank += 1;
        let taken = core::mem::take(&mut rows[pivot]);
        let inverse = taken[&column].invert().expect("entries are not zero");
        // Set the number of rows that have a column anew.
        let mut update = |other: &C, change: &dyn Fn(&mut BTreeSet<usize>)| {
            let users = users.get_mut(other).expect("a column that is left");
            queue.remove(&(users.len(), *other));
            change(users);
            queue.insert((users.len(), *other));
        };
        for other in taken.keys().filter(|other| **other != column) {
            update(other, &|users| {
                users.remove(&pivot);
            });
        }
        for number in using.into_iter().filter(|number| *number != pivot) {
            let factor = -(rows[number].remove(&column).expect("an entry") * inverse);
            for (other, entry) in taken.iter().filter(|(other, _)| **other != column) {
                let sum = rows[number].get(other).copied().unwrap_or(Base::ZERO) + factor * entry;
                if bool::from(sum.is_zero()) {
                    rows[number].remove(other);
                    update(other, &|users| {
                        users.remove(&number);
                    });
                } else {
                    rows[number].insert(*other, sum);
                    update(other, &|users| {
                        users.insert(number);
                    });
                }
            }
        }
    }
    rank
}

/// The rank by elimination in a full matrix.
fn dense_rank(mut rows: Vec<Vec<Base>>) -> usize {
    let columns = rows.first().map_or(0, Vec::len);
    let mut rank = 0;
    for column in 0..columns {
        let Some(found) = (rank..rows.len()).find(|row| !bool::from(rows[*row][column].is_zero())) else { continue };
        rows.swap(rank, found);
        let pivot = rows[rank].clone();
        let inverse = pivot[column].invert().expect("not zero");
        for row in &mut rows[rank + 1..] {
            let factor = row[column] * inverse;
            for (entry, other) in row.iter_mut().zip(&pivot) {
                *entry -= factor * other;
            }
        }
        rank += 1;
    }
    rank
}

#[test]
fn the_rank_is_that_of_the_full_matrix() {
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    let mut rng = ChaCha20Rng::seed_from_u64(1);
    for case in 0..200 {
        let (height, width) = (1 + rng.next_u64() as usize % 24, 1 + rng.next_u64() as usize % 24);
        let mut rows = vec![vec![Base::ZERO; width]; height];
        for row in &mut rows {
            for entry in row {
                // Few and small, so that rows depend on each other now and then.
                *entry = Base::from((rng.next_u64() % 15).saturating_sub(12));
            }
        }
        if case % 2 == 0 && height > 2 {
            let sum = (0..width).map(|i| rows[0][i] + rows[1][i].double()).collect();
            rows[2] = sum;
        }
        let sparse = rows.iter().map(|row| {
            let entries = row.iter().copied().enumerate();
            entries.filter(|(_, entry)| !bool::from(entry.is_zero())).collect()
        });
        assert_eq!(rank(sparse.collect()), dense_rank(rows));
    }
}
