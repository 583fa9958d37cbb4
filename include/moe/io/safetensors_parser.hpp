#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "safetensors_header.hpp"
#include "tensor_view.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI::detail {

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
        contents_ = SafetensorsHeader(data_, context_, strictness_).read(header);
        index_names();
        check_coverage();
        return std::move(contents_);
    }

private:
    /// The header's text: of a sensible length, present and beginning with an object (not with a byte order
    /// mark or white space, which the JSON parser would pass over).
    [[nodiscard]] std::string_view header_text() const {
        if (file_.size() < length_bytes) {
            raise_error(ErrorCode::truncated, context_, ": ", file_.size(), " bytes cannot hold the ", length_bytes,
                        " bytes of the header length");
        }
        std::uint64_t length = 0;
        for (std::size_t i = length_bytes; i-- > 0;) {
            length = (length << 8U) | std::to_integer<std::uint64_t>(file_[i]);
        }
        if (length == 0 || length > max_header_bytes) {
            raise_error(ErrorCode::header, context_, ": a header of ", length, " bytes is not between 1 and ",
                        max_header_bytes);
        }
        const std::span<const std::byte> rest = file_.subspan(length_bytes);
        if (length > rest.size()) {
            raise_error(ErrorCode::truncated, context_, ": the header of ", length, " bytes is cut off after ",
                        rest.size());
        }
        const std::string_view text(reinterpret_cast<const char*>(rest.data()), to_size(length));
        if (text.front() != '{') {
            raise_error(ErrorCode::header, context_, ": the header begins with ", in_quotes(text.substr(0, 1)),
                        ", not with '{'");
        }
        return text;
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
            raise_error(ErrorCode::duplicate, context_, ": two tensors are named ", in_quotes(tensors[*twice].name));
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
                raise_error(ErrorCode::layout, context_, ": tensor ", in_quotes(tensor.name), " begins at byte ",
                            begin(order[k]), " of the data, which leaves a hole from byte ", covered);
            }
            if (begin(order[k]) < covered) {
                raise_error(ErrorCode::layout, context_, ": tensor ", in_quotes(tensor.name), " begins at byte ",
                            begin(order[k]), " of the data and overlaps ", in_quotes(tensors[order[k - 1]].name),
                            ", which ends at ", covered);
            }
            covered += tensor.bytes.size();
        }
        if (covered != data_.size() && strictness_ == Strictness::strict) {
            raise_error(ErrorCode::layout, context_, ": ", data_.size() - covered,
                        " trailing bytes follow the last tensor, which ends at byte ", covered, " of the data");
        }
    }

    std::span<const std::byte> file_;
    std::string_view context_;
    Strictness strictness_;
    std::span<const std::byte> data_;  // what follows the header
    SafetensorsContents contents_;
};

}  // namespace moe::inline MOE_ABI::detail
