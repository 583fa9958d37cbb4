#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/error.hpp"
#include "file_bytes.hpp"
#include "gguf_file.hpp"
#include "gguf_tensor.hpp"
#include "gguf_value.hpp"
#include "strictness.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// "<stem>-00002-of-00005.gguf", as llama.cpp names what it has split.
struct GgufShardName {
    std::string stem;
    std::size_t number = 0;  ///< from 1 on
    std::size_t count = 0;

    [[nodiscard]] std::string path(std::size_t of_number) const {
        const auto digits = [](std::size_t value) {
            const std::string text = std::to_string(value);
            return std::string(text.size() < 5 ? 5 - text.size() : 0, '0') + text;
        };
        return stem + "-" + digits(of_number) + "-of-" + digits(count) + ".gguf";
    }
};

/// Nothing where `path` is no such name.
[[nodiscard]] inline std::optional<GgufShardName> find_shard_name(std::string_view path) {
    constexpr std::string_view pattern = "-00000-of-00000.gguf";
    constexpr std::array<std::size_t, 2> numbers{1, 10};  // where they begin
    constexpr std::size_t digits = 5;
    if (path.size() < pattern.size()) {
        return std::nullopt;
    }
    const std::string_view end = path.substr(path.size() - pattern.size());
    std::array<std::size_t, 2> values{};
    for (std::size_t i = 0; i < values.size(); ++i) {
        const char* const first = end.data() + numbers[i];
        if (std::from_chars(first, first + digits, values[i]).ptr != first + digits) {
            return std::nullopt;
        }
    }
    GgufShardName name{std::string(path.substr(0, path.size() - pattern.size())), values[0], values[1]};
    const bool possible = name.number >= 1 && name.number <= name.count;
    return possible && name.path(name.number) == path ? std::optional(std::move(name)) : std::nullopt;
}

}  // namespace detail

/// A model in one GGUF file or in several, as gguf-split makes them: each a whole file with some of the tensors, the
/// first with the metadata.
class GgufShards {
public:
    /// Opens all files of the model that `path`, one of them, belongs to. Throws as GgufFile::open for each,
    /// Error(missing) where the name of a shard does not say what the others are called, Error(not_found) for a shard
    /// without split.no, Error(layout) where the names of the files, their split.no, split.count and
    /// split.tensors.count do not agree, Error(duplicate) for a tensor in two of them.
    [[nodiscard]] static GgufShards open(const std::string& path, ReadMode mode = ReadMode::map,
                                         Strictness strictness = Strictness::strict) {
        GgufShards result;
        GgufFile first = GgufFile::open(path, mode, strictness);
        const std::size_t count = number_of(first, "split.count", 1);
        if (count > 1) {
            const std::optional<detail::GgufShardName> name = detail::find_shard_name(path);
            if (!name || name->count != count) {
                raise_error(
                    ErrorCode::missing, "GGUF file ", detail::path_in_quotes(path), ": it is one of ", count,
                    " shards, as split.count says, but its name does not end as those do: what are the others?");
            }
            result.open_all(std::move(first), *name, mode, strictness);
        } else {
            result.files_.push_back(std::move(first));
        }
        result.index_names(path);
        return result;
    }

    GgufShards(GgufShards&&) = default;
    GgufShards& operator=(GgufShards&&) = default;
    GgufShards(const GgufShards&) = delete;
    GgufShards& operator=(const GgufShards&) = delete;
    ~GgufShards() = default;

    /// The files, in order; each has its own tensors.
    [[nodiscard]] std::span<const GgufFile> files() const& noexcept { return files_; }
    std::span<const GgufFile> files() const&& = delete;  // temporary: give the file a name

    /// Tensors of all files.
    [[nodiscard]] std::size_t n_tensors() const noexcept { return by_name_.size(); }

    /// The tensor of that name, in whichever file it is, or a null pointer. O(log n).
    [[nodiscard]] const GgufTensor* find(std::string_view name) const& noexcept {
        const auto found =
            std::lower_bound(by_name_.begin(), by_name_.end(), name,
                             [](const GgufTensor* tensor, std::string_view wanted) { return tensor->name < wanted; });
        return found == by_name_.end() || (*found)->name != name ? nullptr : *found;
    }
    const GgufTensor* find(std::string_view) const&& = delete;  // temporary: give the file a name

    /// The tensor of that name. Throws Error(not_found) with the name and the number of files. O(log n).
    [[nodiscard]] const GgufTensor& at(std::string_view name) const& {
        const GgufTensor* const tensor = find(name);
        if (tensor == nullptr) {
            raise_error(ErrorCode::not_found, context_, ": none of the ", n_tensors(), " tensors in ", files_.size(),
                        files_.size() == 1 ? " file" : " files", " is named ", detail::in_quotes(name));
        }
        return *tensor;
    }
    const GgufTensor& at(std::string_view) const&& = delete;  // temporary: give the file a name

    /// The metadata of that key in the first file, or a null pointer. O(log n).
    [[nodiscard]] const GgufValue* find_metadata(std::string_view key) const& noexcept {
        return files_.empty() ? nullptr : files_.front().find_metadata(key);
    }
    const GgufValue* find_metadata(std::string_view) const&& = delete;  // temporary: give the file a name

    /// The same. Throws Error(not_found) with the key and the file.
    [[nodiscard]] const GgufValue& metadata_at(std::string_view key) const& {
        const GgufValue* const value = find_metadata(key);
        if (value == nullptr) {
            raise_error(ErrorCode::not_found, context_, ": no metadata entry is named ", detail::in_quotes(key));
        }
        return *value;
    }
    const GgufValue& metadata_at(std::string_view) const&& = delete;  // temporary: give the file a name

private:
    GgufShards() = default;

    [[nodiscard]] static std::size_t number_of(const GgufFile& file, std::string_view key, std::size_t otherwise) {
        const GgufValue* const value = file.find_metadata(key);
        return value == nullptr ? otherwise : value->as<std::size_t>();
    }

    /// `known` is the file that `name` names: it is not opened, and perhaps read, twice.
    void open_all(GgufFile known, const detail::GgufShardName& name, ReadMode mode, Strictness strictness) {
        std::size_t n_tensors = 0;
        for (std::size_t number = 1; number <= name.count; ++number) {
            const std::string path = name.path(number);
            files_.push_back(number == name.number ? std::move(known) : GgufFile::open(path, mode, strictness));
            const GgufFile& file = files_.back();
            const auto no = file.metadata_at("split.no").as<std::size_t>();
            const std::size_t count = number_of(file, "split.count", 1);
            if (no != number - 1 || count != name.count) {
                raise_error(ErrorCode::layout, "GGUF file ", detail::path_in_quotes(path),
                            ": by its metadata it is shard ", no, " of ", count, ", counted from 0, by its name ",
                            number - 1, " of ", name.count);
            }
            n_tensors += file.tensors().size();
        }
        const std::size_t announced = number_of(files_.front(), "split.tensors.count", n_tensors);
        if (announced != n_tensors) {
            raise_error(ErrorCode::layout, "GGUF file ", detail::path_in_quotes(name.path(1)), ": its ", name.count,
                        " shards hold ", n_tensors, " tensors, but split.tensors.count is ", announced);
        }
    }

    void index_names(const std::string& path) {
        context_ = "GGUF file " + detail::path_in_quotes(path);
        for (const GgufFile& file : files_) {
            for (const GgufTensor& tensor : file.tensors()) {
                by_name_.push_back(&tensor);
            }
        }
        std::sort(by_name_.begin(), by_name_.end(),
                  [](const GgufTensor* a, const GgufTensor* b) { return a->name < b->name; });
        const auto twice = std::adjacent_find(by_name_.begin(), by_name_.end(),
                                              [](const auto* a, const auto* b) { return a->name == b->name; });
        if (twice != by_name_.end()) {
            raise_error(ErrorCode::duplicate, context_, ": two of its ", files_.size(), " shards have a tensor named ",
                        detail::in_quotes((*twice)->name));
        }
    }

    std::string context_;  // what messages call the model
    std::vector<GgufFile> files_;
    std::vector<const GgufTensor*> by_name_;
};

}  // namespace moe::inline MOE_ABI
