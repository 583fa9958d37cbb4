#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

namespace moe_test {

/// A copy of `values` at an address no type of theirs is aligned to, of exactly their size: weights of a file.
template <class W>
class Unaligned {
public:
    explicit Unaligned(const std::vector<W>& values) : bytes_(values.size() * sizeof(W) + 1) {
        if (!values.empty()) {
            std::memcpy(bytes_.data() + 1, values.data(), values.size() * sizeof(W));
        }
    }

    /// Only to be handed on: reading through it is what a kernel must avoid.
    [[nodiscard]] const W* data() const {
        const void* address = bytes_.data() + 1;
        return static_cast<const W*>(address);
    }

private:
    std::vector<std::byte> bytes_;
};

}  // namespace moe_test
