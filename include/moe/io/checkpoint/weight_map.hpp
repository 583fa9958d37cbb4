#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/stat.h>

#include "../file_bytes.hpp"
#include "../safetensors.hpp"
#include "../strictness.hpp"
#include "json_tree.hpp"

namespace moe::inline MOE_ABI::detail {

[[nodiscard]] inline bool path_exists(const std::string& path) {
    struct stat facts {};
    return ::stat(path.c_str(), &facts) == 0;
}
[[nodiscard]] inline bool is_folder(const std::string& path) {
    struct stat facts {};
    return ::stat(path.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode);
}
[[nodiscard]] inline std::string text_of_file(const std::string& path) {
    const FileBytes file = FileBytes::open(path, ReadMode::read);
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

/// The files of a folder with safetensors, each in which file by model.safetensors.index.json, where there is one.
class WeightMap {
public:
    WeightMap(const std::string& folder, Strictness strictness) : folder_(folder), strictness_(strictness) {}

    /// Opens all of them. Throws Error: missing (no such files), range (a file outside of the folder), header (no
    /// weight_map, a name that is no string), not_found (a tensor that is not where the index says), layout (one that
    /// the index does not name, unless lenient), and as SafetensorsFile::open.
    [[nodiscard]] std::vector<SafetensorsFile> open() const {
        const std::string index = folder_ + "/model.safetensors.index.json";
        std::vector<SafetensorsFile> files;
        if (path_exists(index)) {
            open_indexed(index, files);
        } else {
            const std::string single = folder_ + "/model.safetensors";
            ensure(path_exists(single), ErrorCode::missing, "checkpoint ", path_in_quotes(folder_),
                   ": it has neither model.safetensors.index.json nor model.safetensors",
                   path_exists(folder_ + "/pytorch_model.bin") ? "; pytorch_model.bin is not read" : "");
            files.push_back(SafetensorsFile::open(single, ReadMode::map, strictness_));
        }
        return files;
    }

private:
    void open_indexed(const std::string& path, std::vector<SafetensorsFile>& files) const {
        const std::string context = "index " + path_in_quotes(path);
        const JsonTree tree(text_of_file(path), context);
        const JsonNode* const map = tree.find(tree.root(), "weight_map");
        ensure(map != nullptr, ErrorCode::missing, context, ": it has no weight_map");
        ensure(map->kind == JsonKind::object && tree.first_of(*map) != nullptr, ErrorCode::header, context,
               ": weight_map is no object with tensors in it");
        std::map<std::string, std::size_t, std::less<>> numbers;
        std::vector<std::string_view> names;
        std::size_t n_listed = 0;
        for (const JsonNode* entry = tree.first_of(*map); entry != nullptr; entry = tree.next_of(*entry)) {
            ensure(entry->kind == JsonKind::string, ErrorCode::header, context, ": the file of ",
                   in_quotes(tree.key_of(*entry)), " is no string");
            const std::string_view name = tree.text_of(*entry);
            // what a model was downloaded with shall not say which files of the user are read
            ensure(!name.empty() && name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos &&
                       name != "." && name != "..",
                   ErrorCode::range, context, ": the file of ", in_quotes(tree.key_of(*entry)), " is ", in_quotes(name),
                   ", which is no name of a file in the folder");
            if (numbers.find(name) == numbers.end()) {
                numbers.emplace(name, names.size());
                names.push_back(name);
            }
            ++n_listed;
        }
        std::size_t n_stored = 0;
        for (const std::string_view name : names) {
            files.push_back(
                SafetensorsFile::open(std::string(folder_).append("/").append(name), ReadMode::map, strictness_));
            n_stored += files.back().tensors().size();
        }
        for (const JsonNode* entry = tree.first_of(*map); entry != nullptr; entry = tree.next_of(*entry)) {
            const std::string_view name = tree.key_of(*entry);
            ensure(files[numbers.find(tree.text_of(*entry))->second].find(name) != nullptr, ErrorCode::not_found,
                   context, ": tensor ", in_quotes(name), " is not in ", in_quotes(tree.text_of(*entry)),
                   ", where weight_map has it");
        }
        if (strictness_ == Strictness::strict && n_stored > n_listed) {
            refuse_unlisted(tree, *map, context, files);
        }
    }

    static void refuse_unlisted(const JsonTree& tree, const JsonNode& map, std::string_view context,
                                const std::vector<SafetensorsFile>& files) {
        std::vector<std::string_view> listed;
        for (const JsonNode* entry = tree.first_of(map); entry != nullptr; entry = tree.next_of(*entry)) {
            listed.push_back(tree.key_of(*entry));
        }
        std::sort(listed.begin(), listed.end());
        for (const SafetensorsFile& file : files) {
            for (const TensorView& tensor : file.tensors()) {
                ensure(std::binary_search(listed.begin(), listed.end(), std::string_view(tensor.name)),
                       ErrorCode::layout, context, ": tensor ", in_quotes(tensor.name),
                       " is in one of the files, but not in weight_map");
            }
        }
    }

    std::string folder_;
    Strictness strictness_;
};

}  // namespace moe::inline MOE_ABI::detail
