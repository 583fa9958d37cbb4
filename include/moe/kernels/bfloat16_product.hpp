#pragma once

#include "paired_product.hpp"
#include "rounded_product.hpp"

#if MOE_BFLOAT16_PRODUCTS

namespace moe::inline MOE_ABI {

/// scratch.sums (n_panels, n_rows, 64) = rows of bfloat16 (Bfloat16Rows) times packed panels of F: bfloat16 as they
/// are, float16, Int8 and Int4 rounded to bfloat16. Exact products, summed in float32: on the matrix unit where there
/// is one (multiply_rounded), else with vectors (detail::multiply_paired), each in one order whatever the number
/// of rows.
template <class F>
void multiply_bfloat16(RowPointers rows, std::size_t k, const PackedPanels& panels,
                       const PanelScratch<float>& scratch) {
#if MOE_MATRIX_UNIT
    multiply_rounded<F>(rows, k, panels, scratch);
#else
    detail::multiply_paired<F>(rows, k, panels, scratch);
#endif
}

}  // namespace moe::inline MOE_ABI

#endif
