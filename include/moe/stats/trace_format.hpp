#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include "../core/error.hpp"
#include "../core/index.hpp"

namespace moe::inline MOE_ABI {

/// Type of the weights in a trace, as its header numbers them.
enum class TraceWeights : std::uint32_t { float32 = 1, float64 = 2 };

template <std::floating_point T>
inline constexpr TraceWeights trace_weights = sizeof(T) == 4 ? TraceWeights::float32 : TraceWeights::float64;

/// Most experts of a trace: a damaged header must not make a reader allocate without bounds.
inline constexpr std::size_t max_trace_experts = std::size_t{1} << 20U;

/// What the header of a trace says.
struct TraceHeader {
    TraceWeights weights{};
    std::size_t n_experts = 0;
};

namespace detail {

// A trace is a header and then one record a plan, in order. Everything is little-endian, so that any machine reads it.
//
// | header at | bytes | what                                                                  |
// |-----------|-------|-----------------------------------------------------------------------|
// | 0         | 8     | magic: 0x8A "moe" "tr" CR LF, which no text file and no text mode leave |
// | 8         | 4     | version                                                               |
// | 12        | 4     | byte order: 0x01020304                                                |
// | 16        | 4     | TraceWeights                                                          |
// | 20        | 4     | number of experts                                                     |
//
// | record        | bytes          | what                                                                 |
// |---------------|----------------|----------------------------------------------------------------------|
// | n_tokens      | 4              |                                                                      |
// | n_assignments | 4              |                                                                      |
// | counts        | 1 to 5 a token | experts of each token, 7 bits a byte, the lowest first; bit 7: more  |
// | experts       | 1, 2 or 4 each | in order of token, then slot; as few bytes as n_experts asks for     |
// | weights       | 4 or 8 each    | in the same order, the bits of IEEE 754                              |

inline constexpr std::array<unsigned char, 8> trace_magic{0x8A, 'm', 'o', 'e', 't', 'r', '\r', '\n'};
inline constexpr std::uint32_t trace_version = 1;
inline constexpr std::uint32_t trace_byte_order = 0x01020304U;
inline constexpr std::uint32_t trace_foreign_order = 0x04030201U;

/// Bytes of an expert id.
[[nodiscard]] constexpr std::size_t trace_id_bytes(std::size_t n_experts) noexcept {
    return n_experts <= 0x100U ? 1 : n_experts <= 0x10000U ? 2 : 4;
}

template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

/// The `n_bytes` lowest bytes of a number, the lowest first.
inline void append_little_endian(std::vector<std::byte>& bytes, std::uint64_t value, std::size_t n_bytes) {
    for (std::size_t i = 0; i < n_bytes; ++i) {
        bytes.push_back(static_cast<std::byte>((value >> (8 * i)) & 0xFFU));
    }
}

/// 7 bits a byte, the lowest first.
inline void append_varint(std::vector<std::byte>& bytes, std::uint32_t value) {
    while (value >= 0x80U) {
        bytes.push_back(static_cast<std::byte>((value & 0x7FU) | 0x80U));
        value >>= 7U;
    }
    bytes.push_back(static_cast<std::byte>(value));
}

/// Reads numbers from bytes and never beyond their end.
class TraceCursor {
public:
    explicit TraceCursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

    [[nodiscard]] std::size_t at() const noexcept { return at_; }
    [[nodiscard]] std::size_t left() const noexcept { return bytes_.size() - at_; }

    /// The next `n` bytes. Throws Error(truncated) that names `what` is missing.
    std::span<const std::byte> take(std::size_t n, const char* what) {
        ensure(n <= left(), ErrorCode::truncated, "trace: it ends at byte ", bytes_.size(), ", within ", what,
               " from byte ", at_);
        at_ += n;
        return bytes_.subspan(at_ - n, n);
    }

    [[nodiscard]] std::uint64_t number(std::size_t n_bytes, const char* what) {
        std::uint64_t value = 0;
        const std::span<const std::byte> bytes = take(n_bytes, what);
        for (std::size_t i = 0; i < n_bytes; ++i) {
            value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
        }
        return value;
    }
    [[nodiscard]] std::uint32_t number32(const char* what) { return static_cast<std::uint32_t>(number(4, what)); }

    /// Throws Error(range) for more than 32 bits.
    [[nodiscard]] std::uint32_t varint(const char* what) {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 35; shift += 7) {
            const auto byte = std::to_integer<std::uint64_t>(take(1, what)[0]);
            value |= (byte & 0x7FU) << shift;
            if (byte < 0x80U) {
                ensure(value <= (std::numeric_limits<std::uint32_t>::max)(), ErrorCode::range, "trace: ", what,
                       " before byte ", at_, " do not fit 32 bits");
                return static_cast<std::uint32_t>(value);
            }
        }
        raise_error(ErrorCode::range, "trace: ", what, " before byte ", at_, " do not fit 32 bits");
    }

private:
    std::span<const std::byte> bytes_;
    std::size_t at_ = 0;
};

/// Reads the header. The order of the checks decides which of several faults is named.
[[nodiscard]] inline TraceHeader read_trace_header(TraceCursor& cursor) {
    const std::span<const std::byte> magic = cursor.take(trace_magic.size(), "its magic number");
    ensure(std::memcmp(magic.data(), trace_magic.data(), magic.size()) == 0, ErrorCode::header,
           "trace: it does not begin as a trace does");
    const std::uint32_t version = cursor.number32("its version");
    const std::uint32_t order = cursor.number32("its byte order");
    ensure(order != trace_foreign_order, ErrorCode::format, "trace: its numbers are big-endian");
    ensure(order == trace_byte_order, ErrorCode::header, "trace: its byte order mark is ", order, ", it must be ",
           trace_byte_order);
    ensure(version == trace_version, ErrorCode::format, "trace: its version is ", version,
           ", this library reads version ", trace_version);
    const std::uint32_t weights = cursor.number32("the type of its weights");
    ensure(weights == 1 || weights == 2, ErrorCode::unknown_type, "trace: no type of weights has the number ", weights);
    const std::uint32_t n_experts = cursor.number32("its number of experts");
    ensure(n_experts > 0 && n_experts <= max_trace_experts, ErrorCode::range, "trace: it is of ", n_experts,
           " experts, it must be 1 to ", max_trace_experts);
    return {static_cast<TraceWeights>(weights), n_experts};
}

}  // namespace detail

/// What the header of a trace says. Throws Error: truncated, header (no trace), format (another version or byte order),
/// unknown_type, range (number of experts).
[[nodiscard]] inline TraceHeader read_trace_header(std::span<const std::byte> trace) {
    detail::TraceCursor cursor(trace);
    return detail::read_trace_header(cursor);
}

}  // namespace moe::inline MOE_ABI
