//! Replicas over clusters.

/// The share of cluster number `index` of `clusters` when `total` replicas are divided evenly: shares differ by at most
/// one, the remainder goes to the first ones, and they add up to `total` exactly.
///
/// A cluster may get none when there are fewer replicas than clusters. `index` must be below `clusters`; beyond it the
/// share is zero.
pub const fn share(total: u32, clusters: u32, index: u32) -> u32 {
    if index >= clusters {
        return 0;
    }
    total / clusters + if index < total % clusters { 1 } else { 0 }
}
