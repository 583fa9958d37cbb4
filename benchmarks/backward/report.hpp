#pragma once

#include <string>
#include <utility>
#include <vector>

#include "../options.hpp"
#include "row.hpp"

namespace bench::backward {

/// The lines above the table: the machine, and what the columns are.
[[nodiscard]] std::string table_header(const std::vector<std::pair<std::string, std::string>>& header,
                                       const Options& options);
[[nodiscard]] std::string table_line(const Row& row);

/// Writes header (machine_facts) and rows to `path`, in place of what was there. Throws moe::Error(file).
void write_json(const std::string& path, const std::vector<std::pair<std::string, std::string>>& header,
                const Options& options, const std::vector<Row>& rows);

}  // namespace bench::backward
