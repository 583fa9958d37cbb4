#pragma once

#include "split_rows.hpp"
#include "unit_product.hpp"

#if MOE_MATRIX_UNIT

namespace moe::inline MOE_ABI {

/// The product of multiply_packed<bfloat16> on the matrix unit (see detail::multiply_unit for the order of summation).
/// Each activation is the sum of three bfloat16, so that all products are exact.
///
/// From the cache 2 to 3 times as fast as multiply_packed, from 8 rows on. The unit and memory do not work at once as
/// well as multiply-adds and memory do: up to some 16 rows an expert it is slower. Tried: making pairs and requesting
/// lines 2 KB ahead between the products of tiles (12 to 26 % slower); requests in bursts between steps (15 %); blocks
/// of 256 values of k (13 %).
inline void multiply_split(RowPointers rows, std::size_t k, const PackedPanels& panels,
                           const PanelScratch<float>& scratch) {
    detail::multiply_unit<detail::SplitRows>(rows, k, panels, scratch);
}

}  // namespace moe::inline MOE_ABI

#endif
