#include <nlohmann/json.hpp>

#include "output.hpp"
#include "sections.hpp"

namespace compare {

namespace {

using Json = nlohmann::ordered_json;

}  // namespace

std::string to_json(const Report& report) {
    Json document = Json::object();
    for (const Section& section : sections(report)) {
        Json rows = Json::array();
        for (const auto& cells : section.rows) {
            Json row = Json::object();
            for (std::size_t i = 0; i < cells.size(); ++i) {
                std::visit([&](const auto& value) { row[section.columns[i]] = value; }, cells[i]);
            }
            rows.push_back(std::move(row));
        }
        document[section.name] = std::move(rows);
    }
    return document.dump(1, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace compare
