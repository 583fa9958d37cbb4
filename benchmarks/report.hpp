#pragma once

#include <string>
#include <utility>
#include <vector>

#include "options.hpp"
#include "row.hpp"

namespace bench {

/// The lines above the table: the machine, and what the columns are.
[[nodiscard]] std::string table_header(const std::vector<std::pair<std::string, std::string>>& header,
                                       const Options& options);
[[nodiscard]] std::string table_line(const Row& row);

/// Name of a row, e.g. qwen3-30b-a3b/bf16/exact/tokens:64.
[[nodiscard]] std::string row_name(const Shape& shape, Format format, Compute compute, std::size_t tokens);

}  // namespace bench
