#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

#include "error.hpp"
#include "index.hpp"

namespace moe::inline MOE_ABI {

/// A row-major matrix in somebody else's memory: element (r, c) is `data[r * stride + c]`. Copying it copies the view.
template <class T>
class MatrixView {
public:
    using value_type = std::remove_const_t<T>;

    constexpr MatrixView() = default;

    /// Throws Error: null data of a non-empty matrix, a stride below `cols`, an extent beyond the address space. Where
    /// there is one row at most, any stride will do: tensor libraries give 1, and it becomes `cols`. Weights may have
    /// any alignment; `forward` asks activations to be aligned to their type.
    constexpr MatrixView(T* data, std::size_t rows, std::size_t cols, std::size_t stride)
        : data_(data), rows_(rows), cols_(cols), stride_(rows > 1 || stride > cols ? stride : cols) {
        ensure(rows <= 1 || stride >= cols, ErrorCode::stride, "MatrixView: the row stride ", stride,
               " is smaller than the ", cols, " columns of a row");
        ensure(data != nullptr || rows == 0 || cols == 0, ErrorCode::null_pointer, "MatrixView: null data for ", rows,
               " x ", cols, " elements");
        (void)checked_multiply(checked_multiply(rows, stride_), sizeof(T));
    }

    /// A view of constant elements from one of mutable elements.
    template <class U>
        requires(std::is_same_v<const U, T> && !std::is_const_v<U>)
    constexpr MatrixView(const MatrixView<U>& other) noexcept  // NOLINT: implicit as T* to const T* is
        : data_(other.data()), rows_(other.rows()), cols_(other.cols()), stride_(other.stride()) {}

    [[nodiscard]] constexpr T* data() const noexcept { return data_; }
    [[nodiscard]] constexpr std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] constexpr std::size_t cols() const noexcept { return cols_; }
    [[nodiscard]] constexpr std::size_t stride() const noexcept { return stride_; }
    [[nodiscard]] constexpr bool empty() const noexcept { return rows_ == 0 || cols_ == 0; }

    [[nodiscard]] constexpr T* row(std::size_t r) const noexcept { return data_ + r * stride_; }
    [[nodiscard]] constexpr std::span<T> row_span(std::size_t r) const noexcept { return {row(r), cols_}; }
    [[nodiscard]] constexpr T& operator()(std::size_t r, std::size_t c) const noexcept { return row(r)[c]; }

private:
    T* data_ = nullptr;
    std::size_t rows_ = 0;
    std::size_t cols_ = 0;
    std::size_t stride_ = 0;
};

/// View of `rows` x `cols` elements, contiguous unless a row stride (in elements) is given. Throws as MatrixView does.
template <class T>
[[nodiscard]] constexpr MatrixView<T> view(T* data, std::size_t rows, std::size_t cols) {
    return {data, rows, cols, cols};
}
template <class T>
[[nodiscard]] constexpr MatrixView<T> view(T* data, std::size_t rows, std::size_t cols, std::size_t stride) {
    return {data, rows, cols, stride};
}

}  // namespace moe::inline MOE_ABI
