#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "../formats/block_type.hpp"
#include "gguf_cursor.hpp"
#include "gguf_layout.hpp"
#include "gguf_metadata.hpp"
#include "gguf_tensor.hpp"
#include "gguf_value.hpp"
#include "strictness.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI::detail {

struct GgufContents {
    std::uint32_t version = 0;
    std::size_t alignment = gguf_default_alignment;
    std::vector<GgufValue> metadata;   // in the order of the file
    std::vector<std::size_t> by_key;   // their indices, sorted by key
    std::vector<GgufTensor> tensors;   // in the order of the header
    std::vector<std::size_t> by_name;  // their indices, sorted by name
};

/// The one of `items` whose `name` is `wanted`, by their indices in order of it; a null pointer if there is none.
template <class Item>
[[nodiscard]] const Item* find_named(const std::vector<Item>& items, const std::vector<std::size_t>& order,
                                     std::string Item::*name, std::string_view wanted) noexcept {
    const auto found =
        std::lower_bound(order.begin(), order.end(), wanted,
                         [&](std::size_t index, std::string_view text) { return items[index].*name < text; });
    return found == order.end() || items[*found].*name != wanted ? nullptr : &items[*found];
}

/// Reads the GGUF format, versions 2 and 3 (ggml, docs/gguf.md): magic, version and two counts, metadata, descriptions
/// of the tensors, and behind padding their data, each from a multiple of the alignment on. Everything a file announces
/// is compared with what is there before it is used and before memory is asked for it.
class GgufParser {
public:
    /// `context` begins every message; `file` and `context` must outlive the parser, `file` the contents too.
    GgufParser(std::span<const std::byte> file, std::string_view context, Strictness strictness) noexcept
        : file_(file), context_(context), strictness_(strictness), cursor_(file, context) {}

    [[nodiscard]] GgufContents parse() {
        read_head();
        for (std::size_t i = 0; i < n_values_; ++i) {
            contents_.metadata.push_back(read_gguf_value(cursor_));
        }
        contents_.by_key = sorted(contents_.metadata, &GgufValue::key, "metadata entries");
        contents_.alignment = gguf_alignment(
            context_, find_named(contents_.metadata, contents_.by_key, &GgufValue::key, gguf_alignment_key));
        for (std::size_t i = 0; i < n_tensors_; ++i) {
            read_tensor();
        }
        contents_.by_name = sorted(contents_.tensors, &GgufTensor::name, "tensors");
        cursor_.forget_name();
        find_data();
        for (std::size_t i = 0; i < n_tensors_; ++i) {
            place(i);
        }
        check_coverage();
        return std::move(contents_);
    }

private:
    /// What a tensor's description says of its data.
    struct Place {
        std::size_t offset;
        std::size_t size;
    };

    void read_head() {
        const std::span<const std::byte> magic = cursor_.take(gguf_magic.size(), "the magic");
        const std::string_view text(reinterpret_cast<const char*>(magic.data()), magic.size());
        if (text != gguf_magic) {
            raise_error(ErrorCode::header, context_, ": it begins with ", in_quotes(text), ", not with ",
                        in_quotes(gguf_magic));
        }
        contents_.version = cursor_.number<std::uint32_t>("the version");
        check_version(contents_.version);
        const auto tensors = cursor_.number<std::uint64_t>("the number of tensors");
        const auto values = cursor_.number<std::uint64_t>("the number of metadata entries");
        // Least sizes: the length and one byte of a name; type and value; number of dimensions, type and offset.
        constexpr std::size_t name_bytes = 8 + 1;
        n_values_ = possible_count(cursor_, values, name_bytes + 4 + 1, "metadata entries");
        n_tensors_ = possible_count(cursor_, tensors, name_bytes + 4 + 4 + 8, "tensors");
        contents_.metadata.reserve(n_values_);
        contents_.tensors.reserve(n_tensors_);
        places_.reserve(n_tensors_);
    }

    void check_version(std::uint32_t version) const {
        if (version == 1) {
            raise_error(ErrorCode::format, context_,
                        ": it has version 1, whose counts are of 32 bits; 2 and 3 are read");
        }
        if (version != 0 && (version & 0xFFFFU) == 0) {
            raise_error(ErrorCode::format, context_, ": its version, ", version,
                        ", is that of a big-endian file; only little-endian ones are read");
        }
        if (version != 2 && version != gguf_version) {
            raise_error(ErrorCode::format, context_, ": it has version ", version, "; 2 and 3 are read");
        }
    }

    void read_tensor() {
        GgufTensor tensor;
        tensor.name = cursor_.name("tensor");
        const auto dimensions = cursor_.number<std::uint32_t>("the number of dimensions");
        if (dimensions > gguf_max_dimensions) {
            raise_error(ErrorCode::range, cursor_.where(), ": it has ", dimensions, " dimensions, more than ",
                        gguf_max_dimensions);
        }
        for (std::uint32_t i = 0; i < dimensions; ++i) {
            const auto extent = cursor_.number<std::uint64_t>("a dimension");
            if (!std::in_range<std::ptrdiff_t>(extent)) {
                raise_error(ErrorCode::overflow, cursor_.where(), ": a dimension is ", extent, ", more than ",
                            (std::numeric_limits<std::ptrdiff_t>::max)());
            }
            tensor.shape.push_back(to_size(extent));
        }
        std::reverse(tensor.shape.begin(), tensor.shape.end());
        tensor.type = read_type();
        const auto offset = cursor_.number<std::uint64_t>("the offset of its data");
        if (offset % contents_.alignment != 0) {
            raise_error(ErrorCode::layout, cursor_.where(), ": its data begin at byte ", offset,
                        " of the data, no multiple of the alignment ", contents_.alignment);
        }
        if (!std::in_range<std::size_t>(offset)) {
            raise_error(ErrorCode::overflow, cursor_.where(), ": its data begin at byte ", offset, " of the data");
        }
        const std::size_t size = gguf_tensor_bytes(*tensor.type, tensor.shape, [this] { return cursor_.where(); });
        places_.push_back({to_size(offset), size});
        contents_.tensors.push_back(std::move(tensor));
    }

    [[nodiscard]] const BlockType* read_type() {
        constexpr std::uint32_t first_of_forks = 97;
        const auto number = cursor_.number<std::uint32_t>("the type");
        const BlockType* const type = find_block_type(number);
        if (type == nullptr) {
            raise_error(ErrorCode::unknown_type, cursor_.where(), ": its type has the number ", number,
                        number < first_of_forks ? ", which is none that is known here"
                                                : ", which is none of ggml (ik_llama.cpp has types of its own)");
        }
        return type;
    }

    /// The data begin at the next multiple of the alignment. A file without tensors may end before it.
    void find_data() {
        const std::size_t begin = round_up(cursor_.position(), contents_.alignment);
        if (n_tensors_ == 0 && cursor_.rest() == 0) {
            return;
        }
        if (begin > file_.size()) {
            raise_error(ErrorCode::truncated, context_, ": it ends at byte ", file_.size(),
                        ", but the data would begin at byte ", begin);
        }
        data_ = file_.subspan(begin);
    }

    void place(std::size_t i) {
        const auto [offset, size] = places_[i];
        if (offset > data_.size() || size > data_.size() - offset) {
            raise_error(ErrorCode::truncated, context_, ": tensor ", in_quotes(contents_.tensors[i].name), " has ",
                        size, " bytes from byte ", offset, " of the data on, but only ", data_.size(), " are there");
        }
        contents_.tensors[i].bytes = data_.subspan(offset, size);
    }

    /// The tensors, in the order of their data, must follow each other without gap or overlap, each padded to the
    /// alignment: bytes that belong to nobody could carry a second file.
    void check_coverage() const {
        const std::vector<GgufTensor>& tensors = contents_.tensors;
        std::vector<std::size_t> order(tensors.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            return std::pair(places_[a].offset, places_[a].size) < std::pair(places_[b].offset, places_[b].size);
        });
        std::size_t covered = 0;
        for (std::size_t k = 0; k < order.size(); ++k) {
            const auto [offset, size] = places_[order[k]];
            if (offset > covered) {
                raise_error(ErrorCode::layout, context_, ": tensor ", in_quotes(tensors[order[k]].name),
                            " begins at byte ", offset, " of the data, which leaves a hole from byte ", covered);
            }
            if (offset < covered) {
                raise_error(ErrorCode::layout, context_, ": tensor ", in_quotes(tensors[order[k]].name),
                            " begins at byte ", offset, " of the data and overlaps ",
                            in_quotes(tensors[order[k - 1]].name), ", which ends at ", covered);
            }
            covered = round_up(offset + size, contents_.alignment);
        }
        if (strictness_ == Strictness::lenient || covered == data_.size()) {
            return;
        }
        if (covered > data_.size()) {
            raise_error(ErrorCode::truncated, context_, ": the data end at byte ", data_.size(),
                        ", within the padding of the last tensor, which ends at ", covered);
        }
        raise_error(ErrorCode::layout, context_, ": ", data_.size() - covered,
                    " trailing bytes follow the last tensor, which ends at byte ", covered, " of the data");
    }

    /// The indices of `items` by name. Throws Error(duplicate) if two have the same.
    template <class Item>
    [[nodiscard]] std::vector<std::size_t> sorted(const std::vector<Item>& items, std::string Item::*name,
                                                  const char* what) const {
        std::vector<std::size_t> order(items.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::sort(order.begin(), order.end(),
                  [&](std::size_t a, std::size_t b) { return items[a].*name < items[b].*name; });
        const auto twice = std::adjacent_find(
            order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return items[a].*name == items[b].*name; });
        if (twice != order.end()) {
            raise_error(ErrorCode::duplicate, context_, ": two ", what, " are named ", in_quotes(items[*twice].*name));
        }
        return order;
    }

    std::span<const std::byte> file_;
    std::string_view context_;
    Strictness strictness_;
    GgufCursor cursor_;
    std::size_t n_values_ = 0;
    std::size_t n_tensors_ = 0;
    std::vector<Place> places_;        // of the tensors
    std::span<const std::byte> data_;  // what follows the header and its padding
    GgufContents contents_;
};

}  // namespace moe::inline MOE_ABI::detail
