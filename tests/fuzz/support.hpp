#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "moe/core/error.hpp"

/// What the targets share. A target is one file with LLVMFuzzerTestOneInput: libFuzzer drives it where there is clang,
/// replay.cpp with any compiler.
namespace moe_test::fuzz {

using Input = std::span<const std::byte>;

inline Input input_of(const std::uint8_t* data, std::size_t size) {
    return std::as_bytes(std::span<const std::uint8_t>(data, size));
}

/// Whether a target took the last input, at least for a part of what it tries. replay.cpp asks: a corpus of files that
/// are all refused would test little.
inline bool taken = false;

/// Ends the program as a crash does, which is what a fuzzer looks for, unless `condition` holds.
inline void confirm(bool condition, const char* what) {
    if (!condition) {
        (void)std::fprintf(stderr, "does not hold: %s\n", what);
        std::abort();
    }
}

/// False where `action` throws moe::Error; whatever else it throws ends the program.
template <class Action>
bool accepted(Action&& action) {
    try {
        action();
        return true;
    } catch (const moe::Error&) {
        return false;
    }
}

/// File::parse of the input, or none where it refuses.
template <class File, class Strictness>
std::optional<File> parsed(Input input, Strictness strictness) {
    std::optional<File> file;
    (void)accepted([&] { file.emplace(File::parse(input, strictness)); });
    return file;
}

/// Whether `part` lies within `whole`; an empty one may be anywhere.
inline bool lies_in(Input part, Input whole) {
    const std::less_equal<> before;
    return part.empty() ||
           (before(whole.data(), part.data()) && before(part.data() + part.size(), whole.data() + whole.size()));
}

/// Whether no two of `parts` share a byte.
inline bool disjoint(std::vector<Input> parts) {
    std::erase_if(parts, [](Input part) { return part.empty(); });
    std::ranges::sort(parts, std::less<>{}, [](Input part) { return part.data(); });
    const auto shared = std::ranges::adjacent_find(
        parts, [](Input a, Input b) { return std::less<>{}(b.data(), a.data() + a.size()); });
    return shared == parts.end();
}

template <class T>
bool same_bits(std::span<const T> a, std::span<const T> b) {
    static_assert(std::is_trivially_copyable_v<T>);
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

/// The next number of `input`, which becomes shorter; missing bytes are 0.
template <class Number>
Number take(Input& input) {
    Number number{};
    const std::size_t n = (std::min)(sizeof number, input.size());
    if (n > 0) {
        std::memcpy(&number, input.data(), n);
    }
    input = input.subspan(n);
    return number;
}

}  // namespace moe_test::fuzz
