#pragma once

#include <string>
#include <utility>
#include <vector>

#include "options.hpp"
#include "row.hpp"

namespace bench {

/// The machine, and what the rows have in common.
[[nodiscard]] std::string facts_text(const std::vector<std::pair<std::string, std::string>>& header,
                                     const Options& options);
/// The lines above the table: the machine, and what the columns are.
[[nodiscard]] std::string table_header(const std::vector<std::pair<std::string, std::string>>& header,
                                       const Options& options);
[[nodiscard]] std::string table_line(const Row& row);

}  // namespace bench
