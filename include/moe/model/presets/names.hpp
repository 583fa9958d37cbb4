#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "../../config.hpp"

/// Names of models as people write them.
namespace moe::inline MOE_ABI::presets::detail {

inline bool is_letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
inline bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

/// Whether a word of a name, in small letters, says which training, date, version or number format it is, and nothing
/// of the layer: "instruct", "2507", "v0.1", "fp8", but not "4.5".
inline bool is_variant(std::string_view word) {
    bool date = word.size() == 2 || word.size() == 4;
    for (const char c : word) {
        date = date && is_digit(c);
    }
    if (date || word.starts_with("v0.")) {
        return true;
    }
    for (const char* const variant :
         {"instruct", "base",  "chat",     "it",      "inst", "thinking", "reasoning", "pt",   "exp",  "hf",  "fp8",
          "mxfp4",    "nvfp4", "terminus", "preview", "gguf", "awq",      "gptq",      "bf16", "int4", "int8"}) {
        if (word == variant) {
            return true;
        }
    }
    return false;
}

/// What is left of a name to compare: its last part behind a slash, small letters and digits, without the words of
/// is_variant and the suffixes of transformers' classes.
inline std::string plain_name(std::string_view name) {
    name.remove_prefix(name.rfind('/') + 1);  // npos + 1 is 0
    std::string all;
    std::string plain;
    for (std::size_t i = 0; i < name.size();) {
        std::string word;
        std::string letters;
        for (; i < name.size(); ++i) {
            const char c = name[i];
            const bool point = c == '.' && i + 1 < name.size() && is_digit(name[i + 1]);  // within a number
            if (!is_letter(c) && !is_digit(c) && !point) {
                break;
            }
            word += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
            if (!point) {
                letters += word.back();
            }
        }
        ++i;
        all += letters;
        if (!is_variant(word)) {
            plain += letters;
        }
    }
    if (plain.empty()) {
        plain = all;
    }
    for (const std::string_view suffix : {"forcausallm", "forconditionalgeneration"}) {
        if (plain.size() > suffix.size() && plain.ends_with(suffix)) {
            plain.erase(plain.size() - suffix.size());
        }
    }
    return plain;
}

/// Letters to insert, remove or replace to make one word of the other (Levenshtein 1966), of which the first 64 count.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
    constexpr std::size_t most = 64;
    a = a.substr(0, most);
    b = b.substr(0, most);
    std::size_t row[most + 1];
    for (std::size_t j = 0; j <= b.size(); ++j) {
        row[j] = j;
    }
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i + 1;
        for (std::size_t j = 0; j < b.size(); ++j) {
            const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
            const std::size_t other = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = replaced < other ? replaced : other;
        }
    }
    return row[b.size()];
}

/// The names nearest to the one asked for, three at most.
class NearestNames {
public:
    explicit NearestNames(std::string_view wanted) : wanted_(plain_name(wanted)) {}

    /// Whether `name` is the one asked for. Where one is a part of the other they count as half as far apart.
    bool offer(const char* name) {
        const std::string plain = plain_name(name);
        const bool part =
            !wanted_.empty() && (plain.find(wanted_) != std::string::npos || wanted_.find(plain) != std::string::npos);
        const std::size_t distance = (part ? 1 : 2) * edit_distance(wanted_, plain);
        Near offered{name, distance};
        for (Near& near : names_) {
            if (near.name.empty() || offered.distance < near.distance) {
                const Near further = near;
                near = offered;
                offered = further;
            }
        }
        return plain == wanted_;
    }

    [[nodiscard]] std::string text() const { return names_[0].name + ", " + names_[1].name + ", " + names_[2].name; }

private:
    struct Near {
        std::string name;
        std::size_t distance = 0;
    };

    std::string wanted_;
    Near names_[3];
};

}  // namespace moe::inline MOE_ABI::presets::detail
