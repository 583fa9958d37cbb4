#pragma once

#include <string>
#include <vector>

#include "../options.hpp"

namespace bench::backward {

/// The names of the rows that `options` ask for, in the order of run().
[[nodiscard]] std::vector<std::string> row_names(const Options& options);

/// Whether the file for the rows can be written: throws moe::Error(file).
void try_json(const Options& options);

/// Measures and prints all rows and their bars, as benchmarks of Google Benchmark. Whether all results were right.
[[nodiscard]] bool run(const Options& options);

}  // namespace bench::backward
