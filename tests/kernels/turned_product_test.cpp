// Blocks of codes used where they lie against products with the floats they are decoded to: equal bits, and nothing
// read that is not theirs.
#include "moe/kernels/turned_product.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <span>
#include <vector>

#include "experts/encoded/encoded_case.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/guarded.hpp"
#include "support/panel_scratch.hpp"

namespace moe_test::turned_product_test {

namespace {

constexpr std::size_t width = moe::Panel<float>::width;

std::vector<moe::BlockType> coded_types() {
    std::vector<moe::BlockType> types;
    std::copy_if(moe::block_types.begin(), moe::block_types.end(), std::back_inserter(types),
                 [](const moe::BlockType& type) {
                     return moe::turns_blocks({&type, nullptr, 0});
                 });
    return types;
}

/// Any bytes: scales are infinite, NaN or smaller than numbers of full precision, too.
std::vector<std::byte> any_bytes(Draw& draw, std::size_t n) {
    std::vector<std::byte> bytes(n);
    for (std::byte& byte : bytes) {
        byte = static_cast<std::byte>(draw.size(0, 255));
    }
    return bytes;
}

/// Equal bits, or both not a number.
bool same_floats(std::span<const float> a, std::span<const float> b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) {
               return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y) ||
                      (std::isnan(x) && std::isnan(y));
           });
}

/// Outputs of one type, every `step`-th of a matrix between pages that may not be touched.
struct Matrix {
    const moe::BlockType* type;
    std::size_t k;
    std::size_t outputs;
    std::size_t step;
    std::size_t row_bytes;
    std::vector<std::byte> bytes;
    Guarded<std::byte> guarded;

    Matrix(Draw& draw, const moe::BlockType& the_type, std::size_t n_outputs, std::size_t the_step, std::size_t inputs,
           bool tame, Side side)
        : type(&the_type),
          k(inputs),
          outputs(n_outputs),
          step(the_step),
          row_bytes(inputs / the_type.block_values * the_type.block_bytes),
          bytes(some_bytes(draw, tame)),
          guarded(bytes, side) {}

    /// Rows between those that count stand in front of them as well, so that the last one is flush with the end.
    [[nodiscard]] const std::byte* row(const std::byte* origin, std::size_t o) const {
        return origin + (o * step + step - 1) * row_bytes;
    }
    [[nodiscard]] moe::TurnedColumns columns(std::size_t first, std::size_t n) const {
        const std::size_t count = first < outputs ? std::min(n, outputs - first) : 0;
        return {{type, row(guarded.data(), 0), step * row_bytes}, row(guarded.data(), count > 0 ? first : 0), count};
    }
    [[nodiscard]] std::vector<float> values() const {
        std::vector<float> all(outputs * k);
        for (std::size_t o = 0; o < outputs; ++o) {
            type->decode(row(bytes.data(), o), &all[o * k], k / type->block_values);
        }
        return all;
    }

private:
    [[nodiscard]] std::vector<std::byte> some_bytes(Draw& draw, bool tame) const {
        const std::size_t n_blocks = outputs * step * k / type->block_values;
        return tame ? random_encoded_blocks(draw, *type, n_blocks) : any_bytes(draw, n_blocks * type->block_bytes);
    }
};

/// One matrix, or two whose columns share panels.
class Product {
public:
    Product(std::vector<Matrix> matrices, const std::vector<float>& x) : matrices_(std::move(matrices)) {
        for (std::size_t r = 0; r * k() < x.size(); ++r) {
            rows_.push_back(reinterpret_cast<const std::byte*>(x.data() + r * k()));
        }
    }

    [[nodiscard]] std::vector<float> in_place() {
        const auto panel = [&](std::size_t i) {
            moe::TurnedPanel halves{};
            for (std::size_t h = 0; h < matrices_.size(); ++h) {
                halves[h] = matrices_[h].columns(i * columns(), columns());
            }
            return halves;
        };
        std::fill((*scratch_).sums.begin(), (*scratch_).sums.end(), 99.0F);
        moe::multiply_turned_blocks(rows_, k(), panels(), *scratch_, panel);
        const std::size_t size = panels() * rows_.size() * width;
        const auto untouched = (*scratch_).sums.subspan(size);
        CHECK(std::all_of(untouched.begin(), untouched.end(), [](float value) { return value == 99.0F; }));
        return outputs_only();
    }

    [[nodiscard]] std::vector<float> of_floats() {
        std::vector<float> memory(panels() * k() * width + 4096);  // a product asks for what stands behind its panels
        for (std::size_t h = 0; h < matrices_.size(); ++h) {
            const std::vector<float> values = matrices_[h].values();
            for (std::size_t o = 0; o < matrices_[h].outputs; ++o) {
                float* const column = memory.data() + o / columns() * k() * width + h * columns() + o % columns();
                for (std::size_t i = 0; i < k(); ++i) {
                    column[i * width] = values[o * k() + i];
                }
            }
        }
        moe::multiply_packed<float>(
            rows_, k(), {reinterpret_cast<const std::byte*>(memory.data()), panels(), k() * width * sizeof(float)},
            *scratch_);
        return outputs_only();
    }

private:
    [[nodiscard]] std::size_t k() const { return matrices_[0].k; }
    [[nodiscard]] std::size_t columns() const { return width / matrices_.size(); }
    [[nodiscard]] std::size_t panels() const { return moe::divide_up(matrices_[0].outputs, columns()); }

    [[nodiscard]] std::vector<float> outputs_only() const {
        std::vector<float> result;
        for (std::size_t r = 0; r < rows_.size(); ++r) {
            for (std::size_t h = 0; h < matrices_.size(); ++h) {
                for (std::size_t o = 0; o < matrices_[h].outputs; ++o) {
                    result.push_back(
                        (*scratch_).sums_of(o / columns(), rows_.size())[r * width + h * columns() + o % columns()]);
                }
            }
        }
        return result;
    }

    std::vector<Matrix> matrices_;
    std::vector<const std::byte*> rows_;
    OwnedScratch<float> scratch_;
};

}  // namespace

TEST_CASE("blocks that are turned over are the floats that their types decode to", "[kernels]") {
    const std::vector<moe::BlockType> types = coded_types();
    REQUIRE(types.size() == 14);
    for (const moe::BlockType& type : types) {
        moe::with_coded_block(type.number, [&]<class Block>() {
            constexpr moe::PanelKind kind = moe::turned_kind<Block>();
            Draw draw(type.number);
            for (std::size_t turn = 0; turn < 20; ++turn) {
                const std::size_t k = Block::block_values * draw.size(1, 256 / Block::block_values);
                const Matrix matrix(draw, type, draw.size(1, width), draw.size(1, 2), k, false,
                                    draw.coin() ? Side::end : Side::begin);
                std::vector<std::byte> panel(kind.bytes(256) + 64, std::byte{0xFF});
                moe::detail::turn_columns<Block>(matrix.columns(0, width), 0, k, 0, width, panel.data());
                std::vector<float> decoded(k * width);
                for (std::size_t g = 0; g < k / 32; ++g) {
                    moe::decode_panel_group<kind>(panel.data() + kind.factors_at(g), panel.data() + kind.group_at(g),
                                                  decoded.data() + g * 32 * width);
                }
                std::vector<float> found;
                for (std::size_t o = 0; o < matrix.outputs; ++o) {
                    for (std::size_t i = 0; i < k; ++i) {
                        found.push_back(decoded[i * width + o]);
                    }
                }
                INFO(type.name << ", " << matrix.outputs << " outputs, k " << k);
                REQUIRE(same_floats(found, matrix.values()));
            }
        });
    }
}

TEST_CASE("products with blocks have the bits of products with their floats", "[kernels]") {
    for (const moe::BlockType& type : coded_types()) {
        Draw draw(50 + type.number);
        for (const std::size_t n_rows : {1U, 2U, 3U, 4U, 7U, 13U}) {
            for (const bool two : {false, true}) {
                for (const bool tame : {true, false}) {
                    const std::size_t k = type.block_values * draw.size(1, 640 / type.block_values);
                    const std::size_t outputs = draw.size(1, 3 * width);
                    const Side side = draw.coin() ? Side::end : Side::begin;
                    std::vector<Matrix> matrices;
                    for (std::size_t h = 0; h < (two ? 2U : 1U); ++h) {
                        matrices.emplace_back(draw, type, outputs, draw.size(1, 2), k, tame, side);
                    }
                    const std::vector<float> x = random_elements<float>(draw, n_rows * k, 1);
                    Product product(std::move(matrices), x);
                    INFO(type.name << ", " << n_rows << " rows, " << outputs << " outputs, k " << k
                                   << (two ? ", two halves" : "") << (tame ? "" : ", any bytes"));
                    const std::vector<float> expected = product.of_floats();
                    const std::vector<float> found = product.in_place();
                    REQUIRE(found.size() == outputs * n_rows * (two ? 2 : 1));
                    REQUIRE((tame ? same_bits(found, expected) : same_floats(found, expected)));
                }
            }
        }
    }
}

TEST_CASE("halves of a panel may be of two types", "[kernels]") {
    const std::vector<moe::BlockType> types = coded_types();
    Draw draw(9);
    for (std::size_t i = 0; i < types.size(); ++i) {
        const moe::BlockType& first = types[i];
        const moe::BlockType& second = types[(i + 1) % types.size()];
        const std::size_t k = 256 * draw.size(1, 3);
        const std::size_t outputs = draw.size(1, 2 * width);
        std::vector<Matrix> matrices;
        matrices.emplace_back(draw, first, outputs, 1, k, true, Side::end);
        matrices.emplace_back(draw, second, outputs, 1, k, true, Side::end);
        const std::size_t n_rows = 1 + i % 5;
        const std::vector<float> x = random_elements<float>(draw, n_rows * k, 1);
        Product product(std::move(matrices), x);
        INFO(first.name << " and " << second.name << ", " << n_rows << " rows, " << outputs << " outputs, k " << k);
        const std::vector<float> expected = product.of_floats();
        REQUIRE(same_bits(product.in_place(), expected));
    }
}

TEST_CASE("only blocks of codes are turned over", "[kernels]") {
    CHECK(!moe::turns_blocks({}));
    for (const char* const name : {"F32", "F16", "BF16", "IQ2_XXS"}) {
        CHECK(!moe::turns_blocks({moe::find_block_type(name), nullptr, 0}));
    }
}

TEST_CASE("every line of the rows that follow is asked for, and then no more", "[kernels]") {
    alignas(64) static const std::array<std::byte, 8192> memory{};
    const std::byte* const origin = memory.data();
    Draw draw(11);
    for (std::size_t turn = 0; turn < 50; ++turn) {
        const auto rows = [&](std::size_t from) {
            const std::size_t bytes = draw.size(1, 300);
            return moe::FarRows{origin + from + draw.size(0, 100), draw.size(0, 4), bytes + draw.size(0, 500), bytes};
        };
        const moe::FarBlock block{rows(0), rows(4096)};
        std::vector<std::ptrdiff_t> expected;
        for (const moe::FarRows& half : block) {
            for (std::size_t r = 0; r < half.rows; ++r) {
                const std::ptrdiff_t first = half.first + r * half.stride - origin;
                for (std::ptrdiff_t l = first / 64; l * 64 < first + static_cast<std::ptrdiff_t>(half.bytes); ++l) {
                    expected.push_back(l);
                }
            }
        }
        std::vector<std::ptrdiff_t> found;
        moe::detail::RowsAhead ahead(block);
        for (const std::byte* line = ahead.take(); line != nullptr; line = ahead.take()) {
            found.push_back((line - origin) / 64);
        }
        REQUIRE(found == expected);
        REQUIRE(ahead.take() == nullptr);
    }
    moe::detail::RowsAhead none;
    REQUIRE(none.take() == nullptr);
}

}  // namespace moe_test::turned_product_test
