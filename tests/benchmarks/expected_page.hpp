#pragma once

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

/// What a page must show of a report, computed from its JSON and not by the page's script.
namespace expected {

using Json = nlohmann::json;
using Names = std::set<std::string>;

/// All plots by id, and whether a page of this report has them.
std::vector<std::pair<std::string, bool>> plots(const Json& report);

/// The strategies whose chips are pressed below a plot, or none where it has no chips.
std::optional<Names> shown_names(const std::string& section);

/// How many marks a plot has as the page opens: the first shape, most tokens, the first input and strategy.
std::size_t marks_of(const std::string& plot, const Json& report, const std::optional<Names>& shown);

/// What is wrong with the chips below a plot: more than six pressed, or the best, the worst or the usual not among
/// them.
std::vector<std::string> wrong_toggles(const std::string& plot, const std::string& section, const Json& report);

/// What is wrong with the sentences that the page begins with.
std::vector<std::string> wrong_findings(const std::string& page, const Json& report);

}  // namespace expected
