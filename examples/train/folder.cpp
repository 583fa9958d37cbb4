#include "folder.hpp"

#include <filesystem>
#include <fstream>
#include <system_error>

#include <moe/core/error.hpp>

namespace trainer {

void create_folder(const std::string& directory) {
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    moe::ensure(!error, moe::ErrorCode::file, "cannot create ", directory, ": ", error.message());
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
