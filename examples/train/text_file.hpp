#pragma once

#include <string>

namespace trainer {

/// With all above it, unless it is there. Throws moe::Error(file).
void create_directory(const std::string& path);

/// Writes a file all or nothing: beside `path`, then renamed. Throws moe::Error(file), with what was there as it was.
void write_text_file(const std::string& path, const std::string& text);

}  // namespace trainer
