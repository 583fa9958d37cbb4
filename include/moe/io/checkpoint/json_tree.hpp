#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../core/error.hpp"
#include "../json.hpp"
#include "../text.hpp"

namespace moe::inline MOE_ABI::detail {

/// What a value of JSON is; numbers are kept as they are written, `natural` those without sign, point and exponent.
enum class JsonKind : unsigned char { null, yes, no, natural, number, string, array, object };

/// A value in a JsonTree: its text, and those it holds as a list.
struct JsonNode {
    JsonKind kind = JsonKind::null;
    std::uint32_t key = 0;  // in the text of the tree, as `text`
    std::uint32_t key_size = 0;
    std::uint32_t text = 0;
    std::uint32_t text_size = 0;
    std::uint32_t first = 0;  // of its children; 0: none
    std::uint32_t next = 0;   // behind it in the same object or array; 0: none
};

/// JSON text as a tree, in memory of a few times its size whatever it is: 28 bytes a value, which has two at least.
/// (nlohmann's own values take ten times as much, and of two equal keys it drops one.)
class JsonTree {
public:
    /// Values may nest this deep.
    static constexpr std::size_t max_depth = 32;

    /// Throws as read_json, Error(duplicate) for an object with a key twice, Error(header) for what is no object, or
    /// nests deeper than max_depth, Error(range) for more than 64 MiB. `context` begins the messages.
    JsonTree(std::string_view text, std::string_view context) : context_(context) {
        constexpr std::size_t most = std::size_t{1} << 26U;
        ensure(text.size() <= most, ErrorCode::range, context, ": ", text.size(), " bytes of JSON are more than ",
               most);
        const std::string plain = without_infinity(text);
        nodes_.emplace_back();  // so that 0 is none
        read_json(plain, context_, *this);
        ensure(nodes_[1].kind == JsonKind::object, ErrorCode::header, context, ": it is no JSON object");
    }

    [[nodiscard]] const JsonNode& root() const noexcept { return nodes_[1]; }
    [[nodiscard]] std::string_view text_of(const JsonNode& node) const noexcept {
        return std::string_view(text_).substr(node.text, node.text_size);
    }
    [[nodiscard]] std::string_view key_of(const JsonNode& node) const noexcept {
        return std::string_view(text_).substr(node.key, node.key_size);
    }
    /// The first of what an array or object holds, and what stands behind a value; null where there is none.
    [[nodiscard]] const JsonNode* first_of(const JsonNode& node) const noexcept { return at(node.first); }
    [[nodiscard]] const JsonNode* next_of(const JsonNode& node) const noexcept { return at(node.next); }
    /// The value of that key, or null. O(keys).
    [[nodiscard]] const JsonNode* find(const JsonNode& object, std::string_view key) const noexcept {
        const JsonNode* child = object.kind == JsonKind::object ? first_of(object) : nullptr;
        while (child != nullptr && key_of(*child) != key) {
            child = next_of(*child);
        }
        return child;
    }

    // ---- the events of read_json -----------------------------------------------------------------------------------

    void begin_object() { open(JsonKind::object); }
    void begin_array() { open(JsonKind::array); }
    void end_array() { open_.pop_back(); }
    void end_object() {
        refuse_twins(nodes_[open_.back().node]);
        open_.pop_back();
    }
    void key(const std::string& name) { key_ = keep(name); }
    void string(const std::string& value) { add(JsonKind::string, value); }
    void natural(std::uint64_t value) { add(JsonKind::natural, std::to_string(value)); }
    void other_number(std::string_view value) { add(JsonKind::number, value); }
    void boolean(bool value) { add(value ? JsonKind::yes : JsonKind::no, {}); }
    void literal() { add(JsonKind::null, {}); }

private:
    struct Piece {
        std::uint32_t begin = 0;
        std::uint32_t size = 0;
    };
    struct Open {
        std::uint32_t node = 0;
        std::uint32_t last = 0;  // its last child so far
    };

    [[nodiscard]] const JsonNode* at(std::uint32_t index) const noexcept {
        return index == 0 ? nullptr : &nodes_[index];
    }

    /// Python writes Infinity, which is not JSON, into the config.json of models with state spaces: null to us.
    [[nodiscard]] static std::string without_infinity(std::string_view text) {
        constexpr std::string_view word = "Infinity";
        std::string result(text);
        bool quoted = false;
        for (std::size_t i = 0; i < result.size(); ++i) {
            if (result[i] == '\\' && quoted) {
                ++i;
            } else if (result[i] == '"') {
                quoted = !quoted;
            } else if (!quoted && result[i] == 'I' && result.compare(i, word.size(), word) == 0) {
                result.replace(i, word.size(), "null    ");
                if (i > 0 && result[i - 1] == '-') {
                    result[i - 1] = ' ';
                }
            }
        }
        return result;
    }

    [[nodiscard]] Piece keep(std::string_view text) {
        const Piece piece{static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(text.size())};
        text_.append(text);
        return piece;
    }

    void add(JsonKind kind, std::string_view text) {
        const Piece piece = keep(text);
        const auto index = static_cast<std::uint32_t>(nodes_.size());
        nodes_.push_back({kind, key_.begin, key_.size, piece.begin, piece.size, 0, 0});
        key_ = {};
        if (!open_.empty()) {
            Open& parent = open_.back();
            (parent.last == 0 ? nodes_[parent.node].first : nodes_[parent.last].next) = index;
            parent.last = index;
        }
    }

    void open(JsonKind kind) {
        if (open_.size() >= max_depth) {
            raise_error(ErrorCode::header, context_, ": values nest deeper than ", max_depth, " levels");
        }
        add(kind, {});
        open_.push_back({static_cast<std::uint32_t>(nodes_.size() - 1), 0});
    }

    void refuse_twins(const JsonNode& object) const {
        std::vector<std::string_view> keys;
        for (const JsonNode* child = first_of(object); child != nullptr; child = next_of(*child)) {
            keys.push_back(key_of(*child));
        }
        std::sort(keys.begin(), keys.end());
        const auto twice = std::adjacent_find(keys.begin(), keys.end());
        if (twice != keys.end()) {
            raise_error(ErrorCode::duplicate, context_, ": the key ", in_quotes(*twice), " stands twice in an object");
        }
    }

    std::string_view context_;
    std::string text_;  // of keys, strings and numbers
    std::vector<JsonNode> nodes_;
    std::vector<Open> open_;
    Piece key_;
};

}  // namespace moe::inline MOE_ABI::detail
