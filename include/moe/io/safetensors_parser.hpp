#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "dtype.hpp"
#include "json_cursor.hpp"
#include "tensor_view.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI {

/// How much of what the format forbids, or does not mention, is let pass.
enum class Strictness {
    strict,   ///< the tensors cover the data exactly, and their descriptions have the three known fields only
    lenient,  ///< bytes after the last tensor and unknown fields are ignored; published files exist that need it
};

/// The free text stored with the tensors, under the header's key "__metadata__".
using SafetensorsMetadata = std::map<std::string, std::string, std::less<>>;

namespace detail {

/// Bounds no sensible file meets: without them a few bytes of header could ask for many times their number in memory.
inline constexpr std::size_t max_header_bytes = 100'000'000;  // as the format's own library has it
inline constexpr std::size_t max_dimensions = 64;
inline constexpr std::size_t max_metadata_entries = 65'536;

inline constexpr std::size_t length_bytes = 8;
inline constexpr std::string_view metadata_key = "__metadata__";

struct SafetensorsContents {
    std::vector<TensorView> tensors;   // in the order of the header
    std::vector<std::size_t> by_name;  // their indices, sorted by name
    SafetensorsMetadata metadata;
};

/// Reads the safetensors format: an 8-byte little-endian length, that many bytes of JSON, then the tensors' data.
/// Everything a file announces is compared with what is there before it is used.
class SafetensorsParser {
public:
    /// `context` begins every message; `file` and `context` must outlive the parser, `file` the contents too.
    SafetensorsParser(std::span<const std::byte> file, std::string_view context, Strictness strictness) noexcept
        : file_(file), context_(context), strictness_(strictness) {}

    [[nodiscard]] SafetensorsContents parse() {
        const std::string_view header = header_text();
        data_ = file_.subspan(length_bytes + header.size());
        JsonCursor json(header, context_);
        bool metadata_seen = false;
        json.object([&](std::string key) {
            if (key != metadata_key) {
                contents_.tensors.push_back(read_tensor(json, std::move(key)));
                return;
            }
            if (std::exchange(metadata_seen, true)) {
                fail(ErrorCode::duplicate, context_, ": ", metadata_key, " stands twice");
            }
            read_metadata(json);
        });
        json.end();
        index_names();
        check_coverage();
        return std::move(contents_);
    }

private:
    using Kind = JsonCursor::Kind;

    /// What a message begins with: the file, and the tensor being read if there is one.
    [[nodiscard]] std::string_view where() const noexcept { return where_.empty() ? context_ : where_; }

    /// The header's text: long enough, present, in UTF-8 and beginning with an object.
    [[nodiscard]] std::string_view header_text() const {
        if (file_.size() < length_bytes) {
            fail(ErrorCode::truncated, context_, ": ", file_.size(), " bytes cannot hold the ", length_bytes,
                 " bytes of the header length");
        }
        std::uint64_t length = 0;
        for (std::size_t i = length_bytes; i-- > 0;) {
            length = (length << 8U) | std::to_integer<std::uint64_t>(file_[i]);
        }
        if (length == 0 || length > max_header_bytes) {
            fail(ErrorCode::header, context_, ": a header of ", length, " bytes is not between 1 and ",
                 max_header_bytes);
        }
        const std::span<const std::byte> rest = file_.subspan(length_bytes);
        if (length > rest.size()) {
            fail(ErrorCode::truncated, context_, ": the header of ", length, " bytes is cut off after ", rest.size());
        }
        const std::string_view text(reinterpret_cast<const char*>(rest.data()), static_cast<std::size_t>(length));
        if (const std::size_t bad = first_invalid_utf8(text); bad != text.size()) {
            fail(ErrorCode::header, context_, ": the header is not UTF-8: ", in_quotes(text.substr(bad, 1)),
                 " at byte ", bad);
        }
        if (text.front() != '{') {
            fail(ErrorCode::header, context_, ": the header begins with ", in_quotes(text.substr(0, 1)),
                 ", not with '{'");
        }
        return text;
    }

    void read_metadata(JsonCursor& json) {
        where_.clear();
        require_kind(json, Kind::object, metadata_key);
        json.object([&](std::string key) {
            if (json.kind() != Kind::string) {
                fail(ErrorCode::header, context_, ": ", metadata_key, ": the value of ", in_quotes(key), " is ",
                     JsonCursor::kind_name(json.kind()), ", not a string");
            }
            if (contents_.metadata.size() == max_metadata_entries) {
                fail(ErrorCode::range, context_, ": ", metadata_key, " has more than ", max_metadata_entries,
                     " entries");
            }
            const auto [entry, inserted] = contents_.metadata.try_emplace(std::move(key), json.string());
            if (!inserted) {
                fail(ErrorCode::duplicate, context_, ": ", metadata_key, ": the key ", in_quotes(entry->first),
                     " stands twice");
            }
        });
    }

    [[nodiscard]] TensorView read_tensor(JsonCursor& json, std::string name) {
        if (name.empty()) {
            fail(ErrorCode::header, context_, ": a tensor has an empty name");
        }
        where_ = std::string(context_) + ": tensor " + in_quotes(name);
        std::optional<DType> dtype;
        std::optional<std::vector<std::size_t>> shape;
        std::optional<std::span<const std::byte>> bytes;
        require_kind(json, Kind::object, "its description");
        json.object([&](const std::string& field) {
            if (field == "dtype") {
                require_new(!dtype, field);
                dtype = read_dtype(json);
            } else if (field == "shape") {
                require_new(!shape, field);
                shape = read_shape(json);
            } else if (field == "data_offsets") {
                require_new(!bytes, field);
                bytes = read_offsets(json);
            } else if (strictness_ == Strictness::lenient) {
                json.skip();
            } else {
                fail(ErrorCode::header, where(), ": unknown field ", in_quotes(field));
            }
        });
        require(dtype.has_value(), ErrorCode::header, where(), ": no dtype");
        require(shape.has_value(), ErrorCode::header, where(), ": no shape");
        require(bytes.has_value(), ErrorCode::header, where(), ": no data_offsets");
        check_size(*dtype, *shape, bytes->size());
        return {std::move(name), *dtype, std::move(*shape), *bytes};
    }

    void require_new(bool is_new, const std::string& field) const {
        require(is_new, ErrorCode::duplicate, where(), ": the field ", std::string_view(field), " stands twice");
    }

    void require_kind(JsonCursor& json, Kind wanted, std::string_view what) const {
        if (const Kind found = json.kind(); found != wanted) {
            fail(ErrorCode::header, where(), ": ", what, " is ", JsonCursor::kind_name(found), ", not ",
                 JsonCursor::kind_name(wanted));
        }
    }

    [[nodiscard]] DType read_dtype(JsonCursor& json) const {
        require_kind(json, Kind::string, "dtype");
        const std::string name = json.string();
        const std::optional<DType> dtype = find_dtype(name);
        if (!dtype) {
            fail(ErrorCode::unknown_type, where(), ": unknown dtype ", in_quotes(name));
        }
        return *dtype;
    }

    [[nodiscard]] std::vector<std::size_t> read_shape(JsonCursor& json) const {
        require_kind(json, Kind::array, "shape");
        std::vector<std::size_t> shape;
        json.array([&] {
            require(shape.size() < max_dimensions, ErrorCode::range, where(), ": more than ", max_dimensions,
                    " dimensions");
            shape.push_back(read_size(json, "a dimension of shape"));
        });
        return shape;
    }

    [[nodiscard]] std::span<const std::byte> read_offsets(JsonCursor& json) const {
        require_kind(json, Kind::array, "data_offsets");
        std::size_t offsets[2] = {0, 0};
        std::size_t count = 0;
        json.array([&] {
            require(count < 2, ErrorCode::header, where(), ": data_offsets has more than 2 numbers");
            offsets[count++] = read_size(json, "a number of data_offsets");
        });
        const auto [begin, end] = offsets;
        require(count == 2, ErrorCode::header, where(), ": data_offsets has ", count, " numbers instead of 2");
        require(begin <= end, ErrorCode::layout, where(), ": data_offsets begin at ", begin, ", after their end at ",
                end);
        require(end <= data_.size(), ErrorCode::truncated, where(), ": its data end at byte ", end,
                " of the data, but only ", data_.size(), " are there");
        return data_.subspan(begin, end - begin);
    }

    [[nodiscard]] std::size_t read_size(JsonCursor& json, std::string_view what) const {
        require_kind(json, Kind::number, what);
        const std::string_view digits = json.number();
        if (digits.find_first_of(".eE") != std::string_view::npos) {
            fail(ErrorCode::header, where(), ": ", what, " is ", in_quotes(digits), ", not an integer");
        }
        if (digits.front() == '-') {
            fail(ErrorCode::range, where(), ": ", what, " is negative: ", in_quotes(digits));
        }
        std::size_t value = 0;
        if (std::from_chars(digits.data(), digits.data() + digits.size(), value).ec != std::errc{}) {
            fail(ErrorCode::overflow, where(), ": ", what, " is ", in_quotes(digits), ", more than ",
                 std::numeric_limits<std::size_t>::max());
        }
        return value;
    }

    /// Zero extents make a tensor empty but do not hide the others: their product must fit too, because whoever
    /// computes strides from the shape multiplies them.
    void check_size(DType dtype, const std::vector<std::size_t>& shape, std::size_t bytes) const {
        std::size_t product = dtype_size(dtype);
        bool empty = false;
        for (const std::size_t extent : shape) {
            empty = empty || extent == 0;
            const std::size_t factor = extent == 0 ? 1 : extent;
            require(product <= std::numeric_limits<std::size_t>::max() / factor, ErrorCode::overflow, where(),
                    ": its size, ", product, " x ", factor, " bytes or more, overflows");
            product *= factor;
        }
        const std::size_t needed = empty ? 0 : product;
        require(needed == bytes, ErrorCode::layout, where(), ": its shape and dtype need ", needed,
                " bytes, but data_offsets span ", bytes);
    }

    void index_names() {
        const std::vector<TensorView>& tensors = contents_.tensors;
        std::vector<std::size_t>& order = contents_.by_name;
        order.resize(tensors.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::sort(order.begin(), order.end(),
                  [&](std::size_t a, std::size_t b) { return tensors[a].name < tensors[b].name; });
        const auto twice = std::adjacent_find(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            return tensors[a].name == tensors[b].name;
        });
        if (twice != order.end()) {
            fail(ErrorCode::duplicate, context_, ": two tensors are named ", in_quotes(tensors[*twice].name));
        }
    }

    /// The tensors, in the order of their data, must follow each other without gap or overlap from the first byte of
    /// the data to the last: bytes that belong to nobody could carry a second file.
    void check_coverage() const {
        const std::vector<TensorView>& tensors = contents_.tensors;
        const auto begin = [&](std::size_t i) {
            return static_cast<std::size_t>(tensors[i].bytes.data() - data_.data());
        };
        std::vector<std::size_t> order(tensors.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            return std::pair(begin(a), tensors[a].bytes.size()) < std::pair(begin(b), tensors[b].bytes.size());
        });
        std::size_t covered = 0;
        for (std::size_t k = 0; k < order.size(); ++k) {
            const TensorView& tensor = tensors[order[k]];
            if (begin(order[k]) > covered) {
                fail(ErrorCode::layout, context_, ": tensor ", in_quotes(tensor.name), " begins at byte ",
                     begin(order[k]), " of the data, which leaves a hole from byte ", covered);
            }
            if (begin(order[k]) < covered) {
                fail(ErrorCode::layout, context_, ": tensor ", in_quotes(tensor.name), " begins at byte ",
                     begin(order[k]), " of the data and overlaps ", in_quotes(tensors[order[k - 1]].name),
                     ", which ends at ", covered);
            }
            covered += tensor.bytes.size();
        }
        if (covered != data_.size() && strictness_ == Strictness::strict) {
            fail(ErrorCode::layout, context_, ": ", data_.size() - covered,
                 " trailing bytes follow the last tensor, which ends at byte ", covered, " of the data");
        }
    }

    std::span<const std::byte> file_;
    std::string_view context_;
    Strictness strictness_;
    std::span<const std::byte> data_;  // what follows the header
    std::string where_;                // context and tensor being read
    SafetensorsContents contents_;
};

}  // namespace detail
}  // namespace moe::inline MOE_ABI
