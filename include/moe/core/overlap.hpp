#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "matrix_view.hpp"

namespace moe::inline MOE_ABI {

/// Whether `a` and `b` have bytes in common. Exact for views of one row or of equal row stride, so that column windows
/// of one matrix may lie side by side; two views of different strides overlap wherever their address ranges do, even if
/// every element of one falls between the rows of the other. O(1).
template <class A, class B>
[[nodiscard]] bool overlaps(const MatrixView<A>& a, const MatrixView<B>& b) noexcept {
    if (a.empty() || b.empty()) {
        return false;
    }
    const auto range = [](const auto& m, std::size_t element) {
        return ((m.rows() - 1) * m.stride() + m.cols()) * element;
    };
    // Differences of addresses, never their sums: those could wrap.
    const auto a_begin = reinterpret_cast<std::uintptr_t>(a.data());
    const auto b_begin = reinterpret_cast<std::uintptr_t>(b.data());
    const bool a_first = a_begin <= b_begin;
    const std::size_t distance = a_first ? b_begin - a_begin : a_begin - b_begin;
    if (distance >= (a_first ? range(a, sizeof(A)) : range(b, sizeof(B)))) {
        return false;
    }
    const std::size_t stride = a.rows() > 1 ? a.stride() * sizeof(A) : b.stride() * sizeof(B);
    if ((a.rows() == 1 && b.rows() == 1) || (b.rows() > 1 && b.stride() * sizeof(B) != stride)) {
        return true;
    }
    // The window that begins first, seen from a row of the other: it must fit between two of that one's rows.
    const std::size_t first_columns = a_first ? a.cols() * sizeof(A) : b.cols() * sizeof(B);
    const std::size_t other_columns = a_first ? b.cols() * sizeof(B) : a.cols() * sizeof(A);
    const std::size_t offset = distance % stride;
    return offset < first_columns || other_columns > stride - offset;
}

/// Memory as bytes, to hold matrices of different types against each other.
using ByteView = MatrixView<const std::byte>;

/// The bytes of a matrix; of elements that stand one behind the other.
template <class T>
[[nodiscard]] ByteView bytes_of(const MatrixView<T>& matrix) {
    return {reinterpret_cast<const std::byte*>(matrix.data()), matrix.rows(), matrix.cols() * sizeof(T),
            matrix.stride() * sizeof(T)};
}
template <class T>
[[nodiscard]] ByteView bytes_of(std::span<T> elements) {
    return {reinterpret_cast<const std::byte*>(elements.data()), elements.empty() ? std::size_t{0} : std::size_t{1},
            elements.size_bytes(), elements.size_bytes()};
}

/// Memory and what it is called in an error.
struct NamedBytes {
    const char* name;
    ByteView bytes;
};

/// The name of the first of `parts` that has bytes in common with `memory`, or null.
[[nodiscard]] inline const char* overlapped(const ByteView& memory, std::initializer_list<NamedBytes> parts) noexcept {
    for (const NamedBytes& part : parts) {
        if (overlaps(memory, part.bytes)) {
            return part.name;
        }
    }
    return nullptr;
}

/// Throws Error(layout) unless `name`, what the memory called `what` has bytes in common with, is null.
inline void refuse_overlap(const char* where, const char* what, const char* name) {
    ensure(name == nullptr, ErrorCode::layout, where, ": ", what, " overlaps ", name == nullptr ? "" : name,
           "; nothing is computed in place");
}

/// Throws Error(layout) if `a` and `b` overlap, naming both shapes and how far apart they begin.
template <class A, class B>
void require_disjoint(const char* where, const char* a_name, const MatrixView<A>& a, const char* b_name,
                      const MatrixView<B>& b) {
    if (overlaps(a, b)) [[unlikely]] {
        const auto a_begin = reinterpret_cast<std::uintptr_t>(a.data());
        const auto b_begin = reinterpret_cast<std::uintptr_t>(b.data());
        const bool behind = a_begin <= b_begin;
        raise_error(ErrorCode::layout, where, ": ", a_name, " (", a.rows(), " x ", a.cols(), ", row stride ",
                    a.stride(), ") and ", b_name, " (", b.rows(), " x ", b.cols(), ", row stride ", b.stride(), ", ",
                    behind ? b_begin - a_begin : a_begin - b_begin, behind ? " bytes behind" : " bytes before",
                    " it) overlap; nothing is computed in place");
    }
}

}  // namespace moe::inline MOE_ABI
