//! A bounded cache.

use std::{collections::HashMap, hash::Hash};

/// A map of bounded size: what was not asked for while half of it was filled goes.
pub(in crate::store) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    most: usize,
}

impl<K: Hash + Eq, V: Clone> Generations<K, V> {
    /// Holds up to `most` entries.
    pub(in crate::store) fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most }
    }

    pub(in crate::store) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(in crate::store) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.most / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(in crate::store) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_map_keeps_what_is_asked_for() {
        let mut map = Generations::new(100);
        map.insert(0, 0);
        for n in 1..1000 {
            map.insert(n, n);
            assert_eq!(map.get(&0), Some(0), "after {n}");
            assert!(map.young.len() + map.old.len() <= 100);
        }
        assert_eq!(map.get(&999), Some(999));
        assert_eq!(map.get(&500), None);
        map.remove(&0);
        map.remove(&980);
        assert_eq!((map.get(&0), map.get(&980)), (None, None), "young or old");
    }
}
