#pragma once

#include <string>

namespace trainer {

/// With those it stands in. Throws moe::Error(file).
void create_folder(const std::string& directory);

/// A text file, all or nothing. Throws moe::Error(file).
void write_text_file(const std::string& path, const std::string& text);

}  // namespace trainer
