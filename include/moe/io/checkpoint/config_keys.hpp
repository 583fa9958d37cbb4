#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../core/error.hpp"
#include "json_tree.hpp"

namespace moe::inline MOE_ABI::detail {

/// Names of one key, the first of which is taken; made where a function is called, or of an array.
class KeyNames {
public:
    KeyNames(std::initializer_list<std::string_view> names) noexcept : count_(names.size()) { first_ = names.begin(); }
    template <std::size_t count>
    KeyNames(const std::array<std::string_view, count>& names) noexcept  // NOLINT: implicit, as a list is
        : first_(names.data()), count_(count) {}

    [[nodiscard]] const std::string_view* begin() const noexcept { return first_; }
    [[nodiscard]] const std::string_view* end() const noexcept { return first_ + count_; }

private:
    const std::string_view* first_ = nullptr;
    std::size_t count_ = 0;
};

/// What a config.json says, by any of several names. Objects inside it are looked at first, those of language models in
/// files of several ("text_config"). A null is as good as nothing. All throw Error, naming key and value: header for a
/// value of another type, range for a negative one or one above 2^31, layout for a list that is too short.
class ConfigKeys {
public:
    using Names = KeyNames;
    static constexpr std::size_t no_layer = static_cast<std::size_t>(-1);

    /// Both must outlive this.
    ConfigKeys(const JsonTree& tree, std::string_view context) : tree_(&tree), context_(context) {
        add_scope(tree.root());
        for (const std::string_view outer : {"thinker_config", "text_config", "llm_config", "language_config"}) {
            enter(outer);
        }
        enter("ffn_config");
    }

    /// What each of the scopes says, the innermost first.
    [[nodiscard]] std::vector<std::string_view> all_texts(std::string_view name) const {
        std::vector<std::string_view> texts;
        for (std::size_t i = scopes_.size(); i-- > 0;) {
            const JsonNode* node = find_in(scopes_[i], name);
            if (node != nullptr && node->kind == JsonKind::array) {
                node = tree_->first_of(*node);
            }
            if (node != nullptr && node->kind != JsonKind::null) {
                confirm_kind(*node, name, JsonKind::string, "a string");
                texts.push_back(tree_->text_of(*node));
            }
        }
        return texts;
    }

    [[nodiscard]] bool has(Names names) const { return find(names).second != nullptr; }
    [[nodiscard]] bool is_list(Names names) const {
        const auto [name, node] = find(names);
        return node != nullptr && node->kind == JsonKind::array;
    }

    /// Of a list the element of the layer.
    [[nodiscard]] std::optional<std::size_t> natural(Names names, std::size_t layer = no_layer) const {
        const auto [name, node] = element(names, layer);
        return node == nullptr ? std::nullopt : std::optional(natural_of(*node, name));
    }
    [[nodiscard]] std::size_t needed(const char* what, Names names, std::size_t layer = no_layer) const {
        const std::optional<std::size_t> value = natural(names, layer);
        if (!value) {
            std::string tried;
            for (const std::string_view name : names) {
                tried.append(tried.empty() ? "" : ", ").append(name);
            }
            raise_error(ErrorCode::missing, context_, ": it does not say ", what, ": no key ", tried);
        }
        return *value;
    }
    [[nodiscard]] std::optional<double> number(Names names, std::size_t layer = no_layer) const {
        const auto [name, node] = element(names, layer);
        if (node == nullptr) {
            return std::nullopt;
        }
        if (node->kind != JsonKind::natural) {
            confirm_kind(*node, name, JsonKind::number, "a number");
        }
        const std::string_view text = tree_->text_of(*node);
        double value = 0;
        const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
        ensure(read.ec == std::errc{} && std::isfinite(value) && std::abs(value) < 1e30, ErrorCode::range, context_,
               ": ", name, " is ", in_quotes(text), ", beyond what it can be");
        return value;
    }
    [[nodiscard]] std::optional<bool> boolean(Names names) const {
        const auto [name, node] = find(names);
        if (node == nullptr) {
            return std::nullopt;
        }
        if (node->kind != JsonKind::no) {
            confirm_kind(*node, name, JsonKind::yes, "true or false");
        }
        return node->kind == JsonKind::yes;
    }
    [[nodiscard]] std::optional<std::string_view> text(Names names) const {
        const auto [name, node] = find(names);
        if (node == nullptr) {
            return std::nullopt;
        }
        confirm_kind(*node, name, JsonKind::string, "a string");
        return tree_->text_of(*node);
    }
    /// A list of naturals, of booleans (0 and 1) or, by visit(text), of strings; nothing where there is none.
    [[nodiscard]] std::optional<std::vector<std::size_t>> naturals(Names names) const {
        const auto [name, node] = find(names);
        if (node == nullptr) {
            return std::nullopt;
        }
        confirm_kind(*node, name, JsonKind::array, "a list");
        std::vector<std::size_t> values;
        for (const JsonNode* one = tree_->first_of(*node); one != nullptr; one = tree_->next_of(*one)) {
            const bool truth = one->kind == JsonKind::yes || one->kind == JsonKind::no;
            values.push_back(truth ? (one->kind == JsonKind::yes ? 1U : 0U) : natural_of(*one, name));
        }
        return values;
    }
    [[nodiscard]] std::optional<std::vector<std::string_view>> texts(Names names) const {
        const auto [name, node] = find(names);
        if (node == nullptr) {
            return std::nullopt;
        }
        confirm_kind(*node, name, JsonKind::array, "a list");
        std::vector<std::string_view> values;
        for (const JsonNode* one = tree_->first_of(*node); one != nullptr; one = tree_->next_of(*one)) {
            confirm_kind(*one, name, JsonKind::string, "a list of strings");
            values.push_back(tree_->text_of(*one));
        }
        return values;
    }

    [[nodiscard]] std::string_view context() const noexcept { return context_; }

private:
    using Found = std::pair<std::string_view, const JsonNode*>;
    using Scope = std::vector<Found>;  ///< the keys of an object, sorted: they are looked up for each layer

    void enter(std::string_view name) {
        const JsonNode* const inside = find_in(scopes_.back(), name);
        if (inside != nullptr && inside->kind != JsonKind::null) {
            confirm_kind(*inside, name, JsonKind::object, "an object");
            add_scope(*inside);
        }
    }

    void add_scope(const JsonNode& object) {
        constexpr std::size_t most = 1024;
        Scope& scope = scopes_.emplace_back();
        for (const JsonNode* one = tree_->first_of(object); one != nullptr; one = tree_->next_of(*one)) {
            scope.emplace_back(tree_->key_of(*one), one);
        }
        ensure(scope.size() <= most, ErrorCode::range, context_, ": an object has ", scope.size(), " keys, more than ",
               most);
        std::sort(scope.begin(), scope.end());
    }

    [[nodiscard]] static const JsonNode* find_in(const Scope& scope, std::string_view name) {
        const auto found = std::lower_bound(scope.begin(), scope.end(), name,
                                            [](const Found& one, std::string_view key) { return one.first < key; });
        return found != scope.end() && found->first == name ? found->second : nullptr;
    }

    [[nodiscard]] Found find(Names names) const {
        for (std::size_t i = scopes_.size(); i-- > 0;) {
            for (const std::string_view name : names) {
                const JsonNode* const node = find_in(scopes_[i], name);
                if (node != nullptr && node->kind != JsonKind::null) {
                    return {name, node};
                }
            }
        }
        return {};
    }

    [[nodiscard]] Found element(Names names, std::size_t layer) const {
        const auto [name, node] = find(names);
        if (node == nullptr || node->kind != JsonKind::array || layer == no_layer) {
            return {name, node};
        }
        const JsonNode* one = tree_->first_of(*node);
        for (std::size_t i = 0; i < layer && one != nullptr; ++i) {
            one = tree_->next_of(*one);
        }
        ensure(one != nullptr, ErrorCode::layout, context_, ": the list ", name, " ends before layer ", layer);
        return {name, one};
    }

    [[nodiscard]] std::size_t natural_of(const JsonNode& node, std::string_view name) const {
        constexpr std::size_t most = std::size_t{1} << 31U;
        const std::string_view text = tree_->text_of(node);
        const bool integer = node.kind == JsonKind::number && text.find_first_of(".eE") == std::string_view::npos;
        ensure(!integer, ErrorCode::range, context_, ": ", name, " is ", in_quotes(text),
               ", negative or beyond any number");
        confirm_kind(node, name, JsonKind::natural, "an integer");
        std::size_t value = 0;
        (void)std::from_chars(text.data(), text.data() + text.size(), value);
        ensure(value <= most, ErrorCode::range, context_, ": ", name, " is ", value, ", more than ", most);
        return value;
    }

    void confirm_kind(const JsonNode& node, std::string_view name, JsonKind kind, const char* what) const {
        static constexpr const char* kinds[] = {"null",     "true",     "false",  "an integer",
                                                "a number", "a string", "a list", "an object"};
        if (node.kind != kind) {
            raise_error(ErrorCode::header, context_, ": ", name, " is ", kinds[static_cast<std::size_t>(node.kind)],
                        tree_->text_of(node).empty() ? "" : " ",
                        tree_->text_of(node).empty() ? std::string() : in_quotes(tree_->text_of(node)), ", not ", what);
        }
    }

    const JsonTree* tree_;
    std::string_view context_;
    std::vector<Scope> scopes_;
};

}  // namespace moe::inline MOE_ABI::detail
