#include "dumped_page.hpp"

#include <array>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace dumped {

std::string between(std::string_view text, std::string_view from, std::string_view to) {
    const std::vector<std::string> found = all_between(text, from, to);
    if (found.size() != 1) {
        throw std::runtime_error("'" + std::string(from) + "' is in the page " + std::to_string(found.size()) +
                                 " times instead of once");
    }
    return found.front();
}

std::vector<std::string> all_between(std::string_view text, std::string_view from, std::string_view to) {
    std::vector<std::string> found;
    for (std::size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, at)) {
        at += from.size();
        const std::size_t end = text.find(to, at);
        if (end == std::string_view::npos) {
            throw std::runtime_error("no '" + std::string(to) + "' after '" + std::string(from) + "'");
        }
        found.emplace_back(text.substr(at, end - at));
    }
    return found;
}

std::size_t count_class(std::string_view text, std::string_view name) {
    std::size_t count = 0;
    for (const std::string& classes : all_between(text, " class=\"", "\"")) {
        std::istringstream words(classes);
        for (std::string word; words >> word;) {
            count += word == name ? 1U : 0U;
        }
    }
    return count;
}

std::string plain(std::string_view text) {
    static constexpr std::array<std::pair<std::string_view, std::string_view>, 5> entities{
        {{"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&nbsp;", "\xC2\xA0"}}};
    std::string result;
    while (!text.empty()) {
        std::size_t length = 1;
        std::string_view add = text.substr(0, 1);
        if (text[0] == '<') {
            length = text.find('>') + 1;
            add = "";
        }
        for (const auto& [entity, meaning] : entities) {
            if (text.starts_with(entity)) {
                length = entity.size();
                add = meaning;
            }
        }
        result += add;
        text.remove_prefix(length == 0 ? text.size() : length);
    }
    return result;
}

std::vector<Row> table(std::string_view page, const std::string& id) {
    const std::string text = between(page, "<table id=\"" + id + "\"", "</table>");
    const std::vector<std::string> keys = all_between(between(text, "<thead>", "</thead>"), "data-key=\"", "\"");
    std::vector<Row> rows;
    for (const std::string& line : all_between(between(text, "<tbody>", "</tbody>"), "<tr>", "</tr>")) {
        const std::vector<std::string> values = all_between(line, "data-value=\"", "\"");
        // every cell ends in one of the two
        std::vector<std::string> cells = all_between(line, "<th ", "</th>");
        for (std::string& cell : all_between(line, "<td", "</td>")) {
            cells.push_back(std::move(cell));
        }
        if (values.size() != keys.size() || cells.size() != keys.size()) {
            throw std::runtime_error(id + ": a row of " + std::to_string(values.size()) + " cells, not " +
                                     std::to_string(keys.size()));
        }
        Row& row = rows.emplace_back();
        for (std::size_t i = 0; i < keys.size(); ++i) {
            row[keys[i]] = {plain(values[i]), plain("<" + cells[i])};
        }
    }
    return rows;
}

}  // namespace dumped
