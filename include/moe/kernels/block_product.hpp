#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../core/index.hpp"
#include "bfloat16_product.hpp"
#include "block_panel.hpp"
#include "coded_product.hpp"
#include "decoded_product.hpp"

namespace moe::inline MOE_ABI {

/// Panels of a block format that is known when the program runs. Formats without codes, and what is of no one format,
/// are panels of bfloat16, float16 or float32.
class BlockPanels {
public:
    /// Panels of float32.
    constexpr BlockPanels() = default;
    explicit constexpr BlockPanels(const BlockType& type) noexcept : number_(type.number) {}

    /// As in BlockType.
    [[nodiscard]] constexpr std::uint32_t number() const noexcept { return number_; }

    /// Bytes of a panel of `k` inputs, which are whole blocks. Throws Error(overflow).
    [[nodiscard]] std::size_t bytes(std::size_t k) const {
        // no panel has more bytes than one of floats
        const std::size_t most = checked_multiply(k, Panel<float>::width * sizeof(float));
        std::size_t coded = 0;
        const bool has_codes =
            with_coded_block(number_, [&]<class Block>() { coded = BlockPanel<Block>::kind.bytes(k); });
        return has_codes ? coded : is_half() ? most / 2 : most;
    }

    /// A row of `k` weights as output `c` of a panel that is zero where this output is.
    void put_row(const BlockType& type, const std::byte* blocks, std::size_t k, std::size_t c, std::byte* panel) const {
        constexpr std::size_t width = Panel<float>::width;
        if (with_coded_block(number_, [&]<class Block>() { detail::put_row<Block>(blocks, k, c, panel); })) {
            return;
        }
        if (is_half()) {
            for (std::size_t i = 0; i < k; ++i) {
                std::memcpy(panel + (i * width + c) * 2, blocks + 2 * i, 2);
            }
            return;
        }
        std::array<float, 256> values;
        for (std::size_t i = 0, b = 0; i < k; i += type.block_values, ++b) {
            type.decode(blocks + b * type.block_bytes, values.data(), 1);
            for (std::size_t j = 0; j < type.block_values; ++j) {
                std::memcpy(panel + ((i + j) * width + c) * sizeof(float), &values[j], sizeof(float));
            }
        }
    }

    /// The first block of a row whose scale or minimum is no finite number, or `n_blocks`.
    [[nodiscard]] static std::size_t first_bad_block(const BlockType& type, const std::byte* blocks,
                                                     std::size_t n_blocks) {
        std::size_t found = n_blocks;
        with_coded_block(type.number, [&]<class Block>() { found = detail::first_bad_block<Block>(blocks, n_blocks); });
        return found;
    }

    /// multiply_packed with these panels: float accuracy against the floats that the format decodes to.
    /// A template, as the next, so that only programs which use it compile its kernels.
    template <class T = void>
    void multiply(RowPointers rows, std::size_t k, const PackedPanels& panels,
                  const PanelScratch<float>& scratch) const {
        if (with_coded_block(
                number_, [&]<class Block>() { multiply_decoded<BlockPanel<Block>::kind>(rows, k, panels, scratch); })) {
            return;
        }
        switch (number_) {
            case blocks::F16::ggml_type: return multiply_packed<float16>(rows, k, panels, scratch);
            case blocks::BF16::ggml_type: return multiply_packed<bfloat16>(rows, k, panels, scratch);
            default: return multiply_packed<float>(rows, k, panels, scratch);
        }
    }

    /// Whether the weights are integers with scales, which multiply_integers needs.
    [[nodiscard]] bool has_codes() const {
        return with_coded_block(number_, []<class>() {});
    }

    /// The same with quantised rows and integer dot products: see multiply_coded.
    template <class T = void>
    void multiply_integers(RowPointers rows, std::size_t k, const PackedPanels& panels,
                           const PanelScratch<float>& scratch) const {
        with_coded_block(number_,
                         [&]<class Block>() { multiply_coded<BlockPanel<Block>::kind>(rows, k, panels, scratch); });
    }

    /// The same with rows of bfloat16, weights rounded to it: see multiply_bfloat16.
    template <class T = void>
    void multiply_rounded([[maybe_unused]] RowPointers rows, [[maybe_unused]] std::size_t k,
                          [[maybe_unused]] const PackedPanels& panels,
                          [[maybe_unused]] const PanelScratch<float>& scratch) const {
#if MOE_BFLOAT16_PRODUCTS
        if (with_coded_block(number_, [&]<class Block>() {
                multiply_bfloat16<detail::CodedWeights<BlockPanel<Block>::kind>>(rows, k, panels, scratch);
            })) {
            return;
        }
        switch (number_) {
            case blocks::F16::ggml_type: return multiply_bfloat16<float16>(rows, k, panels, scratch);
            case blocks::BF16::ggml_type: return multiply_bfloat16<bfloat16>(rows, k, panels, scratch);
            default: return multiply_bfloat16<float>(rows, k, panels, scratch);
        }
#endif
    }

private:
    [[nodiscard]] constexpr bool is_half() const noexcept {
        return number_ == blocks::F16::ggml_type || number_ == blocks::BF16::ggml_type;
    }

    std::uint32_t number_ = blocks::F32::ggml_type;
};

}  // namespace moe::inline MOE_ABI
