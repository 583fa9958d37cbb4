#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "../core/error.hpp"
#include "../core/half.hpp"
#include "dtype.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI {

/// A named tensor in somebody else's memory: little-endian elements, row-major, the last dimension running fastest,
/// without gaps. Valid as long as that memory is (see SafetensorsFile).
struct TensorView {
    static_assert(std::endian::native == std::endian::little, "stored tensors are little-endian and are not swapped");

    std::string name;
    DType dtype = DType::u8;
    std::vector<std::size_t> shape;    ///< empty for a scalar; any extent may be 0
    std::span<const std::byte> bytes;  ///< element_count() * dtype_size(dtype) of them, at any alignment

    [[nodiscard]] std::size_t element_count() const { return bytes.size() / dtype_size(dtype); }

    /// Whether `data_as<T>()` may be dereferenced as an ordinary T*. Files promise no alignment.
    template <TensorElement T>
    [[nodiscard]] bool is_aligned() const noexcept {
        return reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) == 0;
    }

    /// The elements in place. Throws Error(unknown_type) unless they are T. Where is_aligned<T>() is false the pointer
    /// may only be handed to code that loads unaligned (or to copy_to): dereferencing it is undefined.
    template <TensorElement T>
    [[nodiscard]] const T* data_as() const {
        require_type(reads_as<T>(dtype), dtype_name(dtype_of<T>));
        return reinterpret_cast<const T*>(bytes.data());
    }

    /// Copies the elements, from any alignment. Throws Error(unknown_type) unless they are T, Error(shape) unless `out`
    /// has element_count() elements.
    template <TensorElement T>
    void copy_to(std::span<T> out) const {
        require_type(reads_as<T>(dtype), dtype_name(dtype_of<T>));
        if (out.size() != element_count()) {
            raise_error(ErrorCode::shape, "tensor ", detail::in_quotes(name), ": ", element_count(),
                        " elements do not fill a destination of ", out.size());
        }
        if (!out.empty()) {
            std::memcpy(out.data(), bytes.data(), out.size_bytes());
        }
    }

    /// A copy of the elements. Throws Error(unknown_type) unless they are T.
    template <TensorElement T>
    [[nodiscard]] std::vector<T> to_vector() const {
        require_type(reads_as<T>(dtype), dtype_name(dtype_of<T>));
        std::vector<T> result(element_count());
        copy_to(std::span<T>(result));
        return result;
    }

    /// The elements converted to float: exact from F32, BF16 and F16, rounded to nearest from F64. Throws
    /// Error(unknown_type) for other types.
    [[nodiscard]] std::vector<float> to_float_vector() const { return converted<float>(); }

    /// The elements converted to double, exactly, from F64, F32, BF16 or F16. Throws Error(unknown_type) for others.
    [[nodiscard]] std::vector<double> to_double_vector() const { return converted<double>(); }

private:
    void require_type(bool met, std::string_view wanted) const {
        if (!met) {
            raise_error(ErrorCode::unknown_type, "tensor ", detail::in_quotes(name), " holds ", dtype_name(dtype),
                        ", not ", wanted);
        }
    }

    template <std::floating_point Real>
    [[nodiscard]] std::vector<Real> converted() const {
        switch (dtype) {
            case DType::f32: return converted_from<float, Real>();
            case DType::f64: return converted_from<double, Real>();
            case DType::f16: return converted_from<float16, Real>();
            case DType::bf16: return converted_from<bfloat16, Real>();
            default: break;
        }
        require_type(false, "F32, F64, F16 or BF16");
        return {};
    }

    template <class Stored, class Real>
    [[nodiscard]] std::vector<Real> converted_from() const {
        std::vector<Real> result(element_count());
        for (std::size_t i = 0; i < result.size(); ++i) {
            Stored value;
            std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
            if constexpr (std::floating_point<Stored>) {
                result[i] = static_cast<Real>(value);
            } else {
                result[i] = static_cast<Real>(to_float(value));
            }
        }
        return result;
    }
};

}  // namespace moe::inline MOE_ABI
