#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "../../core/error.hpp"
#include "../../core/half.hpp"
#include "../../core/index.hpp"

namespace moe::inline MOE_ABI::encodings {

/// In what a checkpoint stores scales: F32, BF16 or F16.
enum class ScaleType : unsigned char { float32, bfloat16, float16 };

namespace detail {

/// Element `i` of a tensor, which a file may have put at any address.
template <class N>
[[nodiscard]] inline N number_at(std::span<const std::byte> tensor, std::size_t i) noexcept {
    N value;
    std::memcpy(&value, tensor.data() + i * sizeof(N), sizeof value);
    return value;
}

/// Code `which` of the eight of four bits in an int32, lowest first.
[[nodiscard]] inline unsigned code_at(std::span<const std::byte> tensor, std::size_t word, std::size_t which) noexcept {
    return (number_at<std::uint32_t>(tensor, word) >> (4 * which)) & 15U;
}

[[nodiscard]] constexpr bool is_finite(float value) noexcept { return value - value == 0; }

/// Throws Error(shape) unless a tensor has the bytes of (rows, cols) elements.
inline void confirm_tensor(const char* encoding, const char* name, std::span<const std::byte> tensor, std::size_t rows,
                           std::size_t cols, std::size_t element_bytes) {
    ensure(tensor.size() == checked_multiply(checked_multiply(rows, cols), element_bytes), ErrorCode::shape, encoding,
           ": ", name, " has ", tensor.size(), " bytes, not those of ", rows, " x ", cols, " elements of ",
           element_bytes);
}

/// Throws Error(shape) unless there is a matrix whose inputs and outputs are multiples of what is packed together.
inline void confirm_matrix(const char* encoding, std::size_t outputs, std::size_t inputs, std::size_t outputs_in = 1,
                           std::size_t inputs_in = 1) {
    ensure(outputs > 0 && inputs > 0 && outputs % outputs_in == 0 && inputs % inputs_in == 0, ErrorCode::shape,
           encoding, ": ", outputs, " x ", inputs, "; outputs come in multiples of ", outputs_in, ", inputs of ",
           inputs_in);
}

/// Which group of inputs, with scales of its own, an input is in: neighbours, the last group may be shorter, or what a
/// tensor g_idx, I32 [in], says.
class InputGroups {
public:
    /// Throws Error(range) for groups of none and naming an index that is none, Error(shape) for a g_idx of other
    /// sizes.
    InputGroups(const char* encoding, std::size_t inputs, std::size_t group_size, std::span<const std::byte> g_idx)
        : g_idx_(g_idx), size_(group_size) {
        ensure(group_size > 0 && group_size <= inputs, ErrorCode::range, encoding, ": groups of ", group_size, " of ",
               inputs, " inputs");
        count_ = divide_up(inputs, group_size);
        if (!g_idx.empty()) {
            confirm_tensor(encoding, "g_idx", g_idx, 1, inputs, sizeof(std::int32_t));
            for (std::size_t k = 0; k < inputs; ++k) {
                const auto group = number_at<std::int32_t>(g_idx, k);
                ensure(group >= 0 && static_cast<std::size_t>(group) < count_, ErrorCode::range, encoding, ": g_idx ",
                       k, " is ", group, ", there are ", count_, " groups");
            }
        }
    }

    [[nodiscard]] std::size_t count() const noexcept { return count_; }
    [[nodiscard]] std::size_t of(std::size_t input) const noexcept {
        return g_idx_.empty() ? input / size_ : static_cast<std::size_t>(number_at<std::int32_t>(g_idx_, input));
    }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return g_idx_; }

private:
    std::span<const std::byte> g_idx_;
    std::size_t size_;
    std::size_t count_ = 0;
};

}  // namespace detail

/// Scales as a file has them, (rows, cols) in any of their types.
class Scales {
public:
    Scales() = default;
    Scales(std::span<const std::byte> tensor, ScaleType type) : tensor_(tensor), type_(type) {}

    [[nodiscard]] float operator[](std::size_t i) const noexcept {
        switch (type_) {
            case ScaleType::bfloat16: return to_float(detail::number_at<bfloat16>(tensor_, i));
            case ScaleType::float16: return to_float(detail::number_at<float16>(tensor_, i));
            default: return detail::number_at<float>(tensor_, i);
        }
    }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return tensor_; }

    /// Throws Error(shape) unless these are (rows, cols), Error(range) naming the first that is no number.
    void confirm(const char* encoding, const char* name, std::size_t rows, std::size_t cols) const {
        ensure(type_ <= ScaleType::float16, ErrorCode::range, encoding, ": ", name,
               ": no type of scales has the number ", static_cast<int>(type_));
        detail::confirm_tensor(encoding, name, tensor_, rows, cols, type_ == ScaleType::float32 ? 4 : 2);
        for (std::size_t i = 0; i < rows * cols; ++i) {
            const float scale = (*this)[i];
            ensure(detail::is_finite(scale), ErrorCode::range, encoding, ": ", name, " ", i / cols, ", ", i % cols,
                   " is ", scale);
        }
    }

private:
    std::span<const std::byte> tensor_;
    ScaleType type_ = ScaleType::float32;
};

}  // namespace moe::inline MOE_ABI::encodings
