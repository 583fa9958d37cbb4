#include "text_file.hpp"

#include <filesystem>
#include <fstream>
#include <system_error>

#include <moe/core/error.hpp>

namespace trainer {

void create_directory(const std::string& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    moe::ensure(!error, moe::ErrorCode::file, "cannot create ", path, ": ", error.message());
}

void write_text_file(const std::string& path, const std::string& text) {
    const std::string beside = path + ".part";
    std::ofstream file(beside);
    file << text;
    file.close();
    std::error_code error;
    if (file) {
        std::filesystem::rename(beside, path, error);
    }
    const bool written = file && !error;
    if (!written) {
        std::filesystem::remove(beside, error);
    }
    moe::ensure(written, moe::ErrorCode::file, "cannot write ", path);
}

}  // namespace trainer
