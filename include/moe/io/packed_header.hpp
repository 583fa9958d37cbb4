#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include "../core/error.hpp"
#include "../experts/packed_experts.hpp"
#include "checksum.hpp"

namespace moe::inline MOE_ABI {

/// The formats packed experts are stored in, as files number them.
enum class StoredFormat : std::uint32_t { float32 = 1, float64, bfloat16, float16, int8, int4 };

template <PackedFormat F>
inline constexpr StoredFormat stored_format = std::same_as<F, float>      ? StoredFormat::float32
                                              : std::same_as<F, double>   ? StoredFormat::float64
                                              : std::same_as<F, bfloat16> ? StoredFormat::bfloat16
                                              : std::same_as<F, float16>  ? StoredFormat::float16
                                              : std::same_as<F, Int8>     ? StoredFormat::int8
                                                                          : StoredFormat::int4;

/// Calls visitor.template operator()<F>() with the type F that `format` stands for. Throws Error(unknown_type).
template <class Visitor>
decltype(auto) visit_stored_format(StoredFormat format, Visitor&& visitor) {
    switch (format) {
        case StoredFormat::float32: return visitor.template operator()<float>();
        case StoredFormat::float64: return visitor.template operator()<double>();
        case StoredFormat::bfloat16: return visitor.template operator()<bfloat16>();
        case StoredFormat::float16: return visitor.template operator()<float16>();
        case StoredFormat::int8: return visitor.template operator()<Int8>();
        case StoredFormat::int4: return visitor.template operator()<Int4>();
    }
    raise_error(ErrorCode::unknown_type, "StoredFormat: none has the number ", static_cast<std::uint32_t>(format));
}

namespace detail {

/// The first 4096 bytes of a file of packed experts, little-endian. In version 1 the data begin behind them, a page
/// that can be mapped, and experts lie together. In version 2 they lie apart and the data begin where an expert may,
/// packed_expert_alignment bytes from the begin of the file; what is between is 0.
///
/// | at | bytes | what                                                                    |
/// |----|-------|-------------------------------------------------------------------------|
/// | 0  | 8     | magic: 0x8A "moe" "pk" CR LF, which no text file and no text mode leave |
/// | 8  | 4     | version: of the order of experts, panels and codes; 1 or 2              |
/// | 12 | 4     | byte order of the data: 0x01020304 as the processor that wrote stores it |
/// | 16 | 4     | format: StoredFormat                                                    |
/// | 20 | 4     | outputs a panel                                                         |
/// | 24 | 4     | inputs that share a scale; 1 where there is none                        |
/// | 28 | 4     | 1 for gated experts, else 0                                             |
/// | 32 | 8     | d_model                                                                 |
/// | 40 | 8     | d_ff                                                                    |
/// | 48 | 8     | number of experts                                                       |
/// | 56 | 8     | bytes of data                                                           |
/// | 64 | 8     | checksum of the data                                                    |
/// | 72 | 8     | checksum of these 4096 bytes, with 0 here                               |
/// | 80 | 4016  | 0                                                                       |
struct PackedHeader {
    static constexpr std::size_t bytes = 4096;
    static constexpr std::array<unsigned char, 8> magic{0x8A, 'm', 'o', 'e', 'p', 'k', '\r', '\n'};
    static constexpr std::uint32_t of_together = 1;
    static constexpr std::uint32_t of_apart = 2;
    static constexpr std::uint32_t native_order = 0x01020304U;
    static constexpr std::uint32_t foreign_order = 0x04030201U;
    static constexpr std::size_t version_at = 8;
    static constexpr std::size_t order_at = 12;
    static constexpr std::size_t numbers_at = 16;
    static constexpr std::size_t sizes_at = 32;
    static constexpr std::size_t checksum_at = 72;
    static constexpr std::size_t end = 80;

    std::uint32_t version = of_together;
    std::uint32_t byte_order = native_order;
    std::uint32_t format = 0;
    std::uint32_t panel_width = 0;
    std::uint32_t group = 0;
    std::uint32_t gated = 0;
    std::uint64_t d_model = 0;
    std::uint64_t d_ff = 0;
    std::uint64_t n_experts = 0;
    std::uint64_t data_bytes = 0;
    std::uint64_t data_checksum = 0;

    [[nodiscard]] constexpr PackedOrder order() const noexcept {
        return version == of_apart ? PackedOrder::apart : PackedOrder::together;
    }
    /// Where the data begin.
    [[nodiscard]] constexpr std::size_t data_at() const noexcept {
        return version == of_apart ? packed_expert_alignment : bytes;
    }
};

using PackedHeaderBytes = std::array<std::byte, PackedHeader::bytes>;

template <PackedFormat F>
inline constexpr std::uint32_t stored_group = QuantizedFormat<F> ? quantization_group : 1;
template <PackedFormat F>
inline constexpr std::uint32_t stored_panel_width = Panel<typename PackedPanel<F>::value_type>::width;

template <class Number>
void put_little_endian(Number value, std::byte* target) noexcept {
    for (std::size_t i = 0; i < sizeof value; ++i) {
        target[i] = static_cast<std::byte>((value >> (8 * i)) & 0xFFU);
    }
}

template <class Number>
[[nodiscard]] Number get_little_endian(const std::byte* source) noexcept {
    Number value = 0;
    for (std::size_t i = 0; i < sizeof value; ++i) {
        value |= Number{static_cast<std::uint8_t>(source[i])} << (8 * i);
    }
    return value;
}

/// Of the whole header, its own place taken as 0.
[[nodiscard]] inline std::uint64_t header_checksum(PackedHeaderBytes bytes) noexcept {
    put_little_endian(std::uint64_t{0}, bytes.data() + PackedHeader::checksum_at);
    return chunk_checksum(bytes, 0);
}

/// The header as it stands in a file, sealed with its checksum.
[[nodiscard]] inline PackedHeaderBytes packed_header_bytes(const PackedHeader& header) noexcept {
    PackedHeaderBytes bytes{};
    std::memcpy(bytes.data(), PackedHeader::magic.data(), PackedHeader::magic.size());
    put_little_endian(header.version, bytes.data() + PackedHeader::version_at);
    std::memcpy(bytes.data() + PackedHeader::order_at, &header.byte_order, sizeof header.byte_order);
    std::byte* at = bytes.data() + PackedHeader::numbers_at;
    for (const std::uint32_t number : {header.format, header.panel_width, header.group, header.gated}) {
        put_little_endian(number, at);
        at += sizeof number;
    }
    at = bytes.data() + PackedHeader::sizes_at;
    for (const std::uint64_t size :
         {header.d_model, header.d_ff, header.n_experts, header.data_bytes, header.data_checksum}) {
        put_little_endian(size, at);
        at += sizeof size;
    }
    put_little_endian(header_checksum(bytes), bytes.data() + PackedHeader::checksum_at);
    return bytes;
}

/// Where everything stands in data of format F. Throws Error(overflow).
template <PackedFormat F>
[[nodiscard]] PackedLayout<F> stored_layout(const PackedHeader& header) {
    return {{static_cast<std::size_t>(header.d_model), static_cast<std::size_t>(header.d_ff), header.gated == 1},
            static_cast<std::size_t>(header.n_experts),
            header.order()};
}

/// Reads the header of a file of packed experts and holds every field against what the library can use and against the
/// length of the file. The order of the checks decides which of several faults is named.
class PackedHeaderParser {
public:
    /// `context` is what messages call the file.
    PackedHeaderParser(std::span<const std::byte> file, const std::string& context) : file_(file), context_(context) {}

    [[nodiscard]] PackedHeader parse() {
        check_frame();
        read_fields();
        check_kind();
        check_sizes();
        return header_;
    }

private:
    template <class... Parts>
    void confirm(bool holds, ErrorCode code, Parts... parts) const {
        if (!holds) {
            raise_error(code, context_, ": ", parts...);
        }
    }

    /// Magic, length, version, checksum: is it a header of ours, whole and as it was written?
    void check_frame() {
        const auto& magic = PackedHeader::magic;
        const std::size_t known = (std::min)(file_.size(), magic.size());
        confirm(known == 0 || std::memcmp(file_.data(), magic.data(), known) == 0, ErrorCode::header,
                "it does not begin as a file of packed experts does");
        confirm(file_.size() >= PackedHeader::bytes, ErrorCode::truncated, "it ends after ", file_.size(),
                " bytes, within its header of ", PackedHeader::bytes);
        std::copy_n(file_.data(), bytes_.size(), bytes_.data());
        header_.version = number<std::uint32_t>(PackedHeader::version_at);
        confirm(header_.version == PackedHeader::of_together || header_.version == PackedHeader::of_apart,
                ErrorCode::format, "its version is ", header_.version, ", this library reads versions ",
                PackedHeader::of_together, " and ", PackedHeader::of_apart);
        const auto stored = number<std::uint64_t>(PackedHeader::checksum_at);
        const std::uint64_t found = header_checksum(bytes_);
        confirm(stored == found, ErrorCode::checksum, "its header is damaged: the checksum in it is ", stored,
                ", that of its bytes ", found);
        const auto rest = std::span(std::as_const(bytes_)).subspan(PackedHeader::end);
        confirm(std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0}; }), ErrorCode::header,
                "bytes ", PackedHeader::end, " to ", PackedHeader::bytes, " of its header are not all 0");
    }

    void read_fields() {
        std::memcpy(&header_.byte_order, bytes_.data() + PackedHeader::order_at, sizeof header_.byte_order);
        std::size_t at = PackedHeader::numbers_at;
        for (std::uint32_t* field : {&header_.format, &header_.panel_width, &header_.group, &header_.gated}) {
            *field = number<std::uint32_t>(at);
            at += sizeof *field;
        }
        at = PackedHeader::sizes_at;
        for (std::uint64_t* field :
             {&header_.d_model, &header_.d_ff, &header_.n_experts, &header_.data_bytes, &header_.data_checksum}) {
            *field = number<std::uint64_t>(at);
            at += sizeof *field;
        }
    }

    /// Byte order, format and layout: can this program use the data?
    void check_kind() const {
        constexpr bool little = std::endian::native == std::endian::little;
        confirm(header_.byte_order != PackedHeader::foreign_order, ErrorCode::format, "its data are ",
                little ? "big" : "little", "-endian, this processor is ", little ? "little" : "big", "-endian");
        confirm(header_.byte_order == PackedHeader::native_order, ErrorCode::header, "its byte order mark is ",
                header_.byte_order, ", neither ", PackedHeader::native_order, " nor ", PackedHeader::foreign_order);
        confirm(header_.format >= static_cast<std::uint32_t>(StoredFormat::float32) &&
                    header_.format <= static_cast<std::uint32_t>(StoredFormat::int4),
                ErrorCode::unknown_type, "no format has the number ", header_.format);
        confirm(header_.gated <= 1, ErrorCode::range, "its experts are gated ", header_.gated, ", it must be 0 or 1");
        visit_stored_format(static_cast<StoredFormat>(header_.format), [this]<class F>() {
            confirm(header_.panel_width == stored_panel_width<F>, ErrorCode::format, "its panels have ",
                    header_.panel_width, " outputs, those of ", format_name<F>(), " here have ", stored_panel_width<F>);
            confirm(header_.group == stored_group<F>, ErrorCode::format, "its groups have ", header_.group,
                    " inputs, those of ", format_name<F>(), " here have ", stored_group<F>);
        });
    }

    /// Sizes against each other and against the length of the file.
    void check_sizes() const {
        confirm(file_.size() >= header_.data_at(), ErrorCode::truncated, "it ends after ", file_.size(),
                " bytes, its data begin after ", header_.data_at());
        const std::uint64_t present = file_.size() - header_.data_at();
        confirm(header_.data_bytes <= present, ErrorCode::truncated, "it announces ", header_.data_bytes,
                " bytes of data and ends after ", present);
        confirm(header_.data_bytes == present, ErrorCode::layout, "it announces ", header_.data_bytes,
                " bytes of data and has ", present);
        confirm(header_.d_model > 0 && header_.d_ff > 0 && header_.n_experts > 0, ErrorCode::range, "it holds ",
                header_.n_experts, " experts of d_model ", header_.d_model, " and d_ff ", header_.d_ff,
                ", none may be 0");
        // Two matrices of more than 4 bits a weight: a byte for each (expert, hidden unit, input) at least. Compared by
        // division, which cannot wrap; the exact size, taken afterwards, then fits with room for every padding.
        const bool possible = header_.d_model <= present && header_.d_ff <= present / header_.d_model &&
                              header_.n_experts <= present / (header_.d_model * header_.d_ff);
        std::size_t needed = 0;
        if (possible) {
            visit_stored_format(static_cast<StoredFormat>(header_.format),
                                [&]<class F>() { needed = stored_layout<F>(header_).bytes(); });
        }
        confirm(possible && needed == present, ErrorCode::layout, "its ", header_.data_bytes,
                " bytes of data are not those of ", header_.n_experts, " experts of d_model ", header_.d_model,
                " and d_ff ", header_.d_ff);
    }

    template <class Number>
    [[nodiscard]] Number number(std::size_t at) const noexcept {
        return get_little_endian<Number>(bytes_.data() + at);
    }

    std::span<const std::byte> file_;
    const std::string& context_;
    PackedHeaderBytes bytes_{};
    PackedHeader header_;
};

}  // namespace detail

}  // namespace moe::inline MOE_ABI
