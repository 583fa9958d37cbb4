#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "../core/function_ref.hpp"
#include "block_turn.hpp"
#include "decoded_product.hpp"

namespace moe::inline MOE_ABI {

/// Rows of blocks that fill a panel, or a half of one.
struct TurnedColumns {
    BlockRows rows{};                  ///< of the matrix; without a type: no half
    const std::byte* first = nullptr;  ///< the first of these rows
    std::size_t outputs = 0;           ///< that there are; columns behind them are zero
};

/// What fills the first and the second half of a panel, or all of it and nothing.
using TurnedPanel = std::array<TurnedColumns, 2>;

/// Whether multiply_turned_blocks() takes such rows: the types that consist of codes.
[[nodiscard]] inline bool turns_blocks(const BlockRows& rows) {
    return rows.type != nullptr && with_coded_block(rows.type->number, []<class>() {});
}

namespace detail {

/// Inputs that are turned over together: the largest block, or 8 small ones. A panel of so many codes is 17 KB at most.
inline constexpr std::size_t turned_inputs = 256;
inline constexpr std::size_t turned_groups = turned_inputs / quantization_group;

/// Bytes of a panel of so many with two scales and two minima a group of 32, and of a line that loads may touch behind
/// it.
inline constexpr std::size_t max_turned_bytes =
    PanelKind{
        .bits = 8, .shared = 16, .scale = ScaleForm::half_times_unsigned, .minimum = MinimumForm::half_times_unsigned}
        .bytes(turned_inputs) +
    Prefetch::line;

/// A panel of some inputs whose blocks were turned over.
using TurnedMemory = std::array<std::byte, max_turned_bytes>;

[[nodiscard]] inline bool has_halves(const TurnedPanel& panel) noexcept { return panel[1].rows.type != nullptr; }

/// Bytes of `inputs` inputs of an output.
[[nodiscard]] inline std::size_t bytes_of_inputs(const BlockType& type, std::size_t inputs) noexcept {
    return inputs / type.block_values * type.block_bytes;
}

/// Blocks from byte `at` of lanes<float> rows on.
template <class Block>
MOE_NOINLINE void turn_blocks(const TurnedRows& rows, std::size_t inputs, std::byte* panel,
                              std::size_t column) noexcept {
    constexpr std::size_t groups = Block::block_values / quantization_group;
    for (std::size_t b = 0; b * Block::block_values < inputs; ++b) {
        turn_block(Block{}, rows.from(b * Block::block_bytes),
                   PanelColumns<turned_kind<Block>()>{panel, column, b * groups});
    }
}

/// Inputs [first, first + inputs) of `columns` outputs: columns of a panel from `column` on. Where there are fewer
/// outputs, blocks of zeros.
template <class Block>
void turn_columns(const TurnedColumns& from, std::size_t first, std::size_t inputs, std::size_t column,
                  std::size_t columns, std::byte* panel) noexcept {
    constexpr std::size_t vector = lanes<float>;
    constexpr std::size_t most = turned_inputs / Block::block_values * Block::block_bytes;
    const std::size_t stride = from.rows.stride;
    const std::size_t at = first / Block::block_values * Block::block_bytes;
    for (std::size_t o = 0; o < columns; o += vector) {
        if (o + vector <= from.outputs) {
            turn_blocks<Block>({from.first + o * stride + at, stride}, inputs, panel, column + o);
            continue;
        }
        std::array<std::byte, vector * most> copy{};
        for (std::size_t i = 0; o + i < from.outputs; ++i) {
            std::memcpy(copy.data() + i * most, from.first + (o + i) * stride + at,
                        inputs / Block::block_values * Block::block_bytes);
        }
        turn_blocks<Block>({copy.data(), most}, inputs, panel, column + o);
    }
}

/// Inputs [first, first + inputs) of a panel.
template <class Block>
void turn_panel(const TurnedPanel& halves, std::size_t first, std::size_t inputs, std::byte* panel) noexcept {
    static_assert(turned_kind<Block>().bytes(turned_inputs) + Prefetch::line <= max_turned_bytes);
    constexpr std::size_t width = Panel<float>::width;
    if (!has_halves(halves)) {
        return turn_columns<Block>(halves[0], first, inputs, 0, width, panel);
    }
    turn_columns<Block>(halves[0], first, inputs, 0, width / 2, panel);
    turn_columns<Block>(halves[1], first, inputs, width / 2, width / 2, panel);
}

/// Where inputs [first, first + inputs) of part `part` of `parts` of the outputs lie.
[[nodiscard]] inline FarBlock far_blocks(const TurnedPanel& halves, std::size_t first, std::size_t inputs,
                                         std::size_t part = 0, std::size_t parts = 1) noexcept {
    const auto far = [&](const TurnedColumns& columns) {
        if (columns.outputs == 0) {
            return FarRows{};
        }
        const BlockType& type = *columns.rows.type;
        const std::size_t begin = columns.outputs * part / parts;
        const std::size_t end = columns.outputs * (part + 1) / parts;
        return FarRows{columns.first + begin * columns.rows.stride + bytes_of_inputs(type, first), end - begin,
                       columns.rows.stride, bytes_of_inputs(type, inputs)};
    };
    return {far(halves[0]), far(halves[1])};
}

/// The lines of rows from front to back, those of two halves one after the other.
class RowsAhead {
public:
    RowsAhead() = default;
    explicit RowsAhead(const FarBlock& block) noexcept : second_(block[1]) { begin(block[0]); }

    /// An address in the next line, or null.
    [[nodiscard]] MOE_ALWAYS_INLINE const std::byte* take() noexcept {
        if (at_ >= end_ && !next_row()) {
            return nullptr;
        }
        return std::exchange(at_, at_ + Prefetch::line);
    }

    /// Asks for the next few.
    template <std::size_t Lines>
    MOE_ALWAYS_INLINE void step() noexcept {
        for (std::size_t i = 0; i < Lines; ++i) {
            const std::byte* const line = take();
            if (line == nullptr) {
                return;
            }
            Prefetch::prefetch_line(line);
        }
    }

private:
    void begin(const FarRows& rows) noexcept {
        rows_ = rows;
        at_ = rows.first;
        end_ = rows.first;
        if (rows.rows > 0) {
            // a row that begins within a line may touch one more
            end_ += rows.bytes + reinterpret_cast<std::uintptr_t>(rows.first) % Prefetch::line;
        }
    }
    bool next_row() noexcept {
        if (rows_.rows > 1) {
            begin({rows_.first + rows_.stride, rows_.rows - 1, rows_.stride, rows_.bytes});
        } else {
            begin(std::exchange(second_, {}));
        }
        return at_ < end_;
    }

    FarRows rows_{};
    FarRows second_{};
    const std::byte* at_ = nullptr;
    const std::byte* end_ = nullptr;
};

/// What is asked for while a panel is multiplied: more of its own, and what follows it.
struct TwoAhead {
    RowsAhead own;
    RowsAhead next;

    template <std::size_t Lines>
    MOE_ALWAYS_INLINE void step() noexcept {
        own.step<Lines>();
        next.step<Lines>();
    }
};

/// Bytes of a panel up to which all of the one behind it is asked for while it is multiplied: with more the
/// second-level cache would not hold both.
inline constexpr std::size_t max_ahead = std::size_t{1} << 18U;

/// sums (Rows, 64) = or += x (Rows, inputs) * a panel of turned blocks, `inputs` of which from `first` on.
template <class Block, std::size_t Rows>
MOE_NOINLINE void multiply_turned_groups(RowPointers rows, std::size_t first, std::size_t inputs,
                                         const std::byte* panel, float* sums, TwoAhead& ahead) noexcept {
    constexpr PanelKind kind = turned_kind<Block>();
    constexpr std::size_t width = Panel<float>::width;
    constexpr std::size_t vectors = decoded_vectors<Rows>();
    // how often multiply_group() asks, and for how many lines so that all of a panel is asked for in time
    constexpr std::size_t times = 2 * PanelDecoder<kind>::steps * Panel<float>::vectors / vectors;
    constexpr std::size_t group_lines =
        divide_up(width * quantization_group / Block::block_values * Block::block_bytes, Prefetch::line);
    constexpr std::size_t lines = divide_up(group_lines + group_lines / 8, times);
    const PanelDecoder<kind> decoder;
    std::array<float, Rows * width> block_sums;
    const auto ask = [&](std::size_t) MOE_INLINE_CALL { ahead.step<lines>(); };
    for (std::size_t block = 0; block < inputs; block += Panel<float>::depth) {
        const std::size_t end = (std::min)(block + Panel<float>::depth, inputs);
        for (std::size_t at = block; at < end; at += quantization_group) {
            const std::size_t g = at / quantization_group;
            std::array<const float*, Rows> x;
            for (std::size_t r = 0; r < Rows; ++r) {
                x[r] = reinterpret_cast<const float*>(rows[r]) + first + at;
            }
            for (std::size_t v = 0; v < Panel<float>::vectors; v += vectors) {
                multiply_group<kind, Rows, vectors>(decoder, x, panel + kind.factors_at(g), panel + kind.group_at(g), v,
                                                    block_sums.data(), at != block, ask);
            }
        }
        for (std::size_t i = 0; i < Rows * width; i += lanes<float>) {
            const Vector<float> sum = load(block_sums.data() + i);
            store(sums + i, first + block != 0 ? Vector<float>(load(sums + i) + sum) : sum);
        }
    }
}

/// Panels of one type from front to back, for a few rows. One row of Q4_K on one thread of a Xeon with AVX-512, in GB/s
/// of blocks: out of the cache 11.7 so, 10.4 with panels of half bytes as packed ones have, 6.0 with floats in scratch
/// and a tile over them; turning over alone 37. Out of memory, which gave 14.5, with half bytes: 7.8 with all of the
/// next panel asked for, 6.7 with the next 256 inputs of its own, 5.0 with nothing.
template <class Block, std::size_t Rows>
void multiply_turned_rows(RowPointers rows, std::size_t k, std::size_t n_panels, const PanelScratch<float>& scratch,
                          const FunctionRef<TurnedPanel(std::size_t)>& panel) {
    alignas(Prefetch::line) TurnedMemory turned;
    const bool small = Panel<float>::width * (k / Block::block_values * Block::block_bytes) <= max_ahead;
    for (std::size_t i = 0; i < n_panels; ++i) {
        const TurnedPanel halves = panel(i);
        TwoAhead ahead;
        if (small && i + 1 < n_panels) {
            ahead.next = RowsAhead(far_blocks(panel(i + 1), 0, k));
        }
        for (std::size_t first = 0; first < k; first += turned_inputs) {
            const std::size_t inputs = (std::min)(turned_inputs, k - first);
            if (const std::size_t behind = first + inputs; (!small || i == 0) && behind < k) {
                ahead.own = RowsAhead(far_blocks(halves, behind, (std::min)(turned_inputs, k - behind)));
            }
            turn_panel<Block>(halves, first, inputs, turned.data());
            multiply_turned_groups<Block, Rows>(rows, first, inputs, turned.data(), scratch.sums_of(i, Rows), ahead);
        }
    }
}

/// Inputs [first, first + depth) of a turned panel as floats: columns from `column` on of `block` (depth, 64).
template <class Block>
void decode_turned(const std::byte* turned, std::size_t first, std::size_t depth, std::size_t column,
                   float* block) noexcept {
    constexpr PanelKind kind = turned_kind<Block>();
    constexpr std::size_t width = Panel<float>::width;
    for (std::size_t i = 0; i < depth; i += quantization_group) {
        const std::size_t g = (first + i) / quantization_group;
        float* const target = block + i * width;
        if (column == 0) {
            decode_panel_group<kind>(turned + kind.factors_at(g), turned + kind.group_at(g), target);
            continue;
        }
        std::array<float, quantization_group * width> all;
        decode_panel_group<kind>(turned + kind.factors_at(g), turned + kind.group_at(g), all.data());
        for (std::size_t j = 0; j < quantization_group; ++j) {
            std::copy_n(all.data() + j * width + column, width - column, target + j * width + column);
        }
    }
}

/// Inputs [first + skipped, first + skipped + depth) of a panel as floats, whose inputs [first, first + inputs) are
/// turned over if they are not yet. Halves of two types share no panel: they are turned over each time.
inline void decode_panel(const TurnedPanel& halves, std::size_t first, std::size_t inputs, std::size_t skipped,
                         std::size_t depth, std::byte* turned, float* block) {
    const std::uint32_t type = halves[0].rows.type->number;
    if (!has_halves(halves) || halves[1].rows.type->number == type) {
        with_coded_block(type, [&]<class Block>() {
            if (skipped == 0) {
                turn_panel<Block>(halves, first, inputs, turned);
            }
            decode_turned<Block>(turned, skipped, depth, 0, block);
        });
        return;
    }
    for (std::size_t h = 0; h < 2; ++h) {
        // in the other half zeros: codes of another type may be none of this one
        TurnedPanel alone{};
        alone[h] = halves[h];
        alone[1 - h].rows = halves[h].rows;
        with_coded_block(halves[h].rows.type->number, [&]<class Block>() {
            turn_panel<Block>(alone, first, inputs, turned);
            decode_turned<Block>(turned, skipped, depth, h * Panel<float>::width / 2, block);
        });
    }
}

/// Panels of any types for any number of rows: what is decoded once is used for all of them.
inline void multiply_turned_panels(RowPointers rows, std::size_t k, std::size_t n_panels,
                                   const PanelScratch<float>& scratch,
                                   const FunctionRef<TurnedPanel(std::size_t)>& panel) {
    constexpr std::size_t steps = Panel<float>::depth / Prefetch::interval;
    alignas(Prefetch::line) TurnedMemory turned{};
    for (std::size_t first = 0; first < k; first += turned_inputs) {
        const std::size_t inputs = (std::min)(turned_inputs, k - first);
        const std::size_t parts = divide_up(inputs, Panel<float>::depth);
        for (std::size_t i = 0; i < n_panels; ++i) {
            const TurnedPanel halves = panel(i);
            const bool last = i + 1 == n_panels;
            const std::size_t behind = last ? first + inputs : first;
            const TurnedPanel next = behind < k ? panel(last ? 0 : i + 1) : TurnedPanel{};
            for (std::size_t part = 0; part < parts; ++part) {
                const std::size_t skipped = part * Panel<float>::depth;
                const std::size_t depth = (std::min)(Panel<float>::depth, inputs - skipped);
                decode_panel(halves, first, inputs, skipped, depth, turned.data(), scratch.block.data());
                const std::size_t asked = (std::min)(turned_inputs, k - behind);
                multiply_block<float>(
                    rows, first + skipped, scratch.block.data(), depth, scratch.sums_of(i, rows.size()),
                    GatherPrefetch(far_blocks(next, behind, asked, part, parts), n_tiles(rows.size()), steps), i == 0);
            }
        }
    }
}

}  // namespace detail

/// multiply_packed with weights that stay in the user's memory as blocks of codes, of one type or of two: float
/// accuracy against the floats that the types decode to, and the bits of multiply_decoded() in all columns that have an
/// output. Each code is decoded once a call, and no float of it leaves the first-level cache. Nothing but the blocks is
/// read. panel(i) is called for i < n_panels. All types meet turns_blocks().
template <class T = void>
void multiply_turned_blocks(RowPointers rows, std::size_t k, std::size_t n_panels, const PanelScratch<float>& scratch,
                            FunctionRef<TurnedPanel(std::size_t)> panel) {
    if (rows.empty() || n_panels == 0) {
        return;
    }
    const TurnedPanel front = panel(0);
    const BlockType& type = *front[0].rows.type;
    const bool alike = !detail::has_halves(front) || front[1].rows.type->number == type.number;
    if (!alike || rows.size() > Panel<float>::tile_rows) {
        return detail::multiply_turned_panels(rows, k, n_panels, scratch, panel);
    }
    with_coded_block(type.number, [&]<class Block>() {
        with_rows(rows.size(), [&]<std::size_t Rows>() {
            detail::multiply_turned_rows<Block, Rows>(rows, k, n_panels, scratch, panel);
        });
    });
}

}  // namespace moe::inline MOE_ABI
