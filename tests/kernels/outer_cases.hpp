#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "moe/kernels/outer_product.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/guarded.hpp"
#include "support/layer_cases.hpp"
#include "support/multiply_add.hpp"

/// Sums of outer products in memory that shows what is read or written beside them.
namespace moe_test::outer_cases {

/// What stands where nothing may be read or written.
template <class T>
constexpr T poison = std::numeric_limits<T>::quiet_NaN();

/// Scratch of exactly the documented size, each half between pages that may not be touched, and full of NaN.
template <class T>
class Scratch {
public:
    Scratch()
        : left_(std::vector<T>(moe::OuterBlock<T>::tokens * moe::OuterBlock<T>::rows, poison<T>), Side::end),
          right_(std::vector<T>(moe::OuterBlock<T>::run_bytes / sizeof(T), poison<T>), Side::end) {}

    operator moe::OuterScratch<T>() const { return {{left_.data(), left_.size()}, {right_.data(), right_.size()}}; }

private:
    Guarded<T> left_;
    Guarded<T> right_;
};

/// The rows of one operand, in memory in another order than in the sum, each behind and before columns that are poison.
template <class T>
class Operand {
public:
    Operand(Draw& draw, std::size_t n_tokens, std::size_t columns, bool scaled)
        : n_tokens_(n_tokens), columns_(columns), before_(draw.size(0, 5)), after_(draw.size(0, 5)) {
        values_ = random_elements<T>(draw, n_tokens * columns, 1);
        for (T& value : values_) {
            value /= 3;  // or products of two would be exact in double, whatever rounds them
        }
        scale_ = random_elements<T>(draw, scaled ? n_tokens : 0, 2);
        std::vector<T> memory(n_tokens * stride(), poison<T>);
        std::vector<std::size_t> place(n_tokens);
        std::iota(place.begin(), place.end(), std::size_t{0});
        for (std::size_t t = n_tokens; t > 1; --t) {
            std::swap(place[t - 1], place[draw.size(0, t - 1)]);
        }
        for (std::size_t t = 0; t < n_tokens; ++t) {
            std::copy_n(values_.begin() + static_cast<std::ptrdiff_t>(t * columns), columns,
                        memory.begin() + static_cast<std::ptrdiff_t>(place[t] * stride() + before_));
        }
        memory.resize(memory.size() - (n_tokens == 0 ? 0 : after_));
        memory_.emplace_back(memory, draw.coin() ? Side::begin : Side::end);
        for (std::size_t t = 0; t < n_tokens; ++t) {
            rows_.push_back(memory_[0].data() + place[t] * stride());
        }
    }

    [[nodiscard]] moe::OuterRows<T> rows() const { return {rows_, before_, columns_, scale_}; }
    [[nodiscard]] moe::OuterRows<T> rows(std::size_t first_token, std::size_t count, std::size_t first_column,
                                         std::size_t columns) const {
        const std::span<const T> scale = scale_;
        return {std::span(rows_).subspan(first_token, count), before_ + first_column, columns,
                scale.empty() ? scale : scale.subspan(first_token, count)};
    }

    /// A value as the sum takes it.
    [[nodiscard]] T factor(std::size_t t, std::size_t column) const {
        const T value = values_[t * columns_ + column];
        return scale_.empty() ? value : static_cast<T>(scale_[t] * value);
    }
    [[nodiscard]] double exact(std::size_t t, std::size_t column) const {
        const auto value = static_cast<double>(values_[t * columns_ + column]);
        return scale_.empty() ? value : static_cast<double>(scale_[t]) * value;
    }

    void set(std::size_t t, std::size_t column, T value) {
        values_[t * columns_ + column] = value;
        const_cast<T*>(rows_[t])[before_ + column] = value;
    }

    [[nodiscard]] std::size_t n_tokens() const { return n_tokens_; }
    [[nodiscard]] std::size_t columns() const { return columns_; }

private:
    [[nodiscard]] std::size_t stride() const { return before_ + columns_ + after_; }

    std::size_t n_tokens_;
    std::size_t columns_;
    std::size_t before_;
    std::size_t after_;
    std::vector<T> values_;
    std::vector<T> scale_;
    std::vector<Guarded<T>> memory_;
    std::vector<const T*> rows_;
};

/// Where the elements of C are.
struct Place {
    std::size_t row_stride;
    std::size_t column_stride;
};

template <class T>
struct Sum {
    Draw draw;
    Operand<T> a;
    Operand<T> b;
    std::vector<T> start;  ///< (m, n)

    Sum(std::uint64_t seed, std::size_t n_tokens, std::size_t m, std::size_t n)
        : draw(seed),
          a(draw, n_tokens, m, draw.coin()),
          b(draw, n_tokens, n, draw.size(0, 3) == 0),
          start(random_elements<T>(draw, m * n, 1)) {}

    [[nodiscard]] std::size_t m() const { return a.columns(); }
    [[nodiscard]] std::size_t n() const { return b.columns(); }

    /// The documented order, spelt out.
    [[nodiscard]] std::vector<T> chain() const {
        std::vector<T> c = start;
        for (std::size_t t = 0; t < a.n_tokens(); ++t) {
            std::vector<T> row(n());
            for (std::size_t j = 0; j < n(); ++j) {
                row[j] = b.factor(t, j);
            }
            for (std::size_t i = 0; i < m(); ++i) {
                const T left = a.factor(t, i);
                for (std::size_t j = 0; j < n(); ++j) {
                    c[i * n() + j] = multiply_add(left, row[j], c[i * n() + j]);
                }
            }
        }
        return c;
    }

    /// What `add` makes of C in memory that ends, or begins, with C and has poison between its elements, all of which
    /// must still be there.
    template <class Add>
    [[nodiscard]] std::vector<T> run(Place place, Side side, Add&& add) const {
        const std::size_t last =
            m() * n() == 0 ? 0 : (m() - 1) * place.row_stride + (n() - 1) * place.column_stride + 1;
        std::vector<T> before(last, poison<T>);
        std::vector<bool> used(last, false);
        for (std::size_t i = 0; i < m(); ++i) {
            for (std::size_t j = 0; j < n(); ++j) {
                before[i * place.row_stride + j * place.column_stride] = start[i * n() + j];
                used[i * place.row_stride + j * place.column_stride] = true;
            }
        }
        const Guarded<T> memory(before, side);
        add(moe::OuterTarget<T>{memory.data(), place.row_stride, place.column_stride});
        std::vector<T> c(m() * n());
        for (std::size_t i = 0; i < m(); ++i) {
            for (std::size_t j = 0; j < n(); ++j) {
                c[i * n() + j] = memory.data()[i * place.row_stride + j * place.column_stride];
            }
        }
        std::size_t touched = 0;
        for (std::size_t i = 0; i < last; ++i) {
            const std::span<const T> now(memory.data() + i, 1);
            touched += !used[i] && !same_bits(now, std::span<const T>(&before[i], 1), NonFinite::allow) ? 1U : 0U;
        }
        CHECK(touched == 0);
        return c;
    }

    [[nodiscard]] std::vector<T> once(const Scratch<T>& scratch, Place place, Side side = Side::end) const {
        return run(place, side,
                   [&](const moe::OuterTarget<T>& c) { moe::add_outer<T>(a.rows(), b.rows(), c, scratch); });
    }
    [[nodiscard]] std::vector<T> once(const Scratch<T>& scratch) const { return once(scratch, {n(), 1}); }
};

}  // namespace moe_test::outer_cases
