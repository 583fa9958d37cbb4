#pragma once

#include <string>
#include <vector>

namespace bench {

/// Hands `options` (--benchmark_...) to Google Benchmark. Throws moe::Error(range) for one it does not know.
void initialize_google(const std::string& program, const std::vector<std::string>& options);

/// Runs what is registered, without the table of Google Benchmark: our programs print their own.
void run_google();

}  // namespace bench
