#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>

#include "io/support.hpp"
#include "moe/io/packed_file.hpp"
#include "support/layer_cases.hpp"

namespace moe_test {

/// The storage type that a bank to be packed in format F has here.
template <class F>
using SourceOf = std::conditional_t<moe::QuantizedFormat<F>, float, F>;

/// Bytes at an address that is a multiple of buffer_alignment, as the data of a file must be.
class AlignedBytes {
public:
    explicit AlignedBytes(std::span<const std::byte> bytes) : buffer_(bytes.size()) {
        std::copy(bytes.begin(), bytes.end(), buffer_.data());
    }
    [[nodiscard]] std::span<std::byte> span() const { return {buffer_.data(), buffer_.size()}; }

private:
    moe::AlignedBuffer buffer_;
};

/// A layer shape of odd sizes: every panel and every group has a tail.
inline LayerShape odd_shape(moe::FormKind kind = moe::FormKind::swiglu) {
    LayerShape shape;
    shape.n_experts = 3;
    shape.d_model = 37;
    shape.d_ff = 41;
    shape.biases = true;
    shape.form.kind = kind;
    return shape;
}

/// What write_packed makes of experts packed in format F.
template <class F>
Bytes packed_file_bytes(const LayerShape& shape) {
    const LayerCase<SourceOf<F>> layer_case(shape, 5);
    const moe::PackedExperts<F, moe::AnyForm> packed(layer_case.bank());
    const TemporaryDirectory directory;
    moe::write_packed(directory.file("experts.moe"), packed);
    return read_file(directory.file("experts.moe"));
}

}  // namespace moe_test
