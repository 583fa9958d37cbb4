#pragma once

#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <moe/core/error.hpp>

#include "row.hpp"

namespace bench {

using Json = nlohmann::ordered_json;

/// A figure, or null where it was not measured.
[[nodiscard]] inline Json measured(double value) { return value > 0 ? Json(value) : Json(nullptr); }

[[nodiscard]] inline Json to_json(const Statistics& seconds) {
    return {{"min", measured(seconds.min)},
            {"median", measured(seconds.median)},
            {"p95", measured(seconds.p95)},
            {"samples", seconds.samples}};
}

/// Writes header (machine_facts) and rows to `path`, in place of what was there. Throws moe::Error(file).
inline void write_json_file(const std::string& path, const std::vector<std::pair<std::string, std::string>>& header,
                            const Json& rows) {
    Json facts = Json::object();
    for (const auto& [name, value] : header) {
        facts[name] = value;
    }
    std::ofstream file(path);
    file << Json{{"header", facts}, {"rows", rows}}.dump(2) << '\n';
    file.close();
    moe::ensure(file.good(), moe::ErrorCode::file, "cannot write '", std::string_view(path), "'");
}

}  // namespace bench
