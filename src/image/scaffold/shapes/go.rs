//! Go modules of public shapes, and what is found in them.

use super::{Shape, shape};

pub const SHAPES: &[Shape] = &[
    // Redis options.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nfunc main() {\n\tc := redis.NewClient(&redis.Options{Addr: \"localhost:6379\"})\n\thttp.ListenAndServe(\":9001\", nil)\n}\n",
            ),
        ],
        &["port 9001"],
    ),
    // Redis then env port.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nfunc main() {\n\tc := redis.NewClient(&redis.Options{Addr: \"localhost:6379\"})\n\tport := os.Getenv(\"PORT\")\n\tif port == \"\" {\n\t\tport = \"9002\"\n\t}\n\thttp.ListenAndServe(\":\"+port, nil)\n}\n",
            ),
        ],
        &["port 9002"],
    ),
    // Tracer start.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nfunc main() {\n\ttracer.Start(\"localhost:8126\")\n\tport := \"9003\"\n\thttp.ListenAndServe(\":\"+port, nil)\n}\n",
            ),
        ],
        &["port 9003"],
    ),
    // Pflag IntP.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nfunc main() {\n\tport := pflag.IntP(\"port\", \"p\", 9004, \"\")\n\tpflag.Parse()\n\thttp.ListenAndServe(fmt.Sprintf(\":%d\", *port), nil)\n}\n",
            ),
        ],
        &["port 9004"],
    ),
    // Cobra IntVarP.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nfunc main() {\n\tvar port int\n\tcmd.Flags().IntVarP(&port, \"port\", \"p\", 9005, \"\")\n\thttp.ListenAndServe(fmt.Sprintf(\":%d\", port), nil)\n}\n",
            ),
        ],
        &["port 9005"],
    ),
    // Urfave flag.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nfunc main() {\n\tapp := &cli.App{Flags: []cli.Flag{&cli.IntFlag{Name: \"port\", Value: 9006}}}\n\tapp.Run(os.Args)\n\thttp.ListenAndServe(fmt.Sprintf(\":%d\", p), nil)\n}\n",
            ),
        ],
        &["port 9006"],
    ),
    // Viper default.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nfunc main() {\n\tviper.SetDefault(\"server.port\", 9007)\n\thttp.ListenAndServe(fmt.Sprintf(\":%d\", viper.GetInt(\"server.port\")), nil)\n}\n",
            ),
        ],
        &["port 9007"],
    ),
    // Echo.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nfunc main() {\n\te := echo.New()\n\te.GET(\"/healthz\", h)\n\te.Logger.Fatal(e.Start(\":1323\"))\n}\n",
            ),
        ],
        &["port 1323", "health path /healthz"],
    ),
    // Fiber group.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nfunc main() {\n\tapp := fiber.New()\n\tapi := app.Group(\"/api\")\n\tapi.Get(\"/health\", h)\n\tapp.Listen(\":3001\")\n}\n",
            ),
        ],
        &["port 3001", "health path /api/health"],
    ),
    // Gin run default.
    shape(
        &[
            ("go.mod", "module x\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport \"github.com/gin-gonic/gin\"\n\nfunc main() {\n\tr := gin.Default()\n\tr.GET(\"/ping\", h)\n\tr.Run()\n}\n",
            ),
        ],
        &["port 8080", "health path /ping"],
    ),
    // Envconfig.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\ntype C struct {\n\tPort int `envconfig:\"PORT\" default:\"9008\"`\n}\nfunc main() {\n\thttp.ListenAndServe(fmt.Sprintf(\":%d\", c.Port), nil)\n}\n",
            ),
        ],
        &["port 9008"],
    ),
    // Post only.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nfunc main() {\n\thttp.HandleFunc(\"POST /health\", h)\n\thttp.HandleFunc(\"GET /up\", h)\n\thttp.ListenAndServe(\":9009\", nil)\n}\n",
            ),
        ],
        &["health path /up"],
    ),
    // Two servers.
    shape(
        &[
            ("go.mod", "module example.org/x\n\ngo 1.26\n"),
            (
                "cmd/api/main.go",
                "package main\nimport \"net/http\"\nfunc main() { http.ListenAndServe(\":1111\", nil) }\n",
            ),
            (
                "cmd/admin/main.go",
                "package main\nimport \"net/http\"\nfunc main() { http.ListenAndServe(\":1112\", nil) }\n",
            ),
        ],
        &["? entry"],
    ),
    // Cgo sqlite.
    shape(
        &[
            ("go.mod", "module x\n\ngo 1.26\n\nrequire github.com/mattn/go-sqlite3 v1.14.0\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nimport _ \"github.com/mattn/go-sqlite3\"\nfunc main() { http.ListenAndServe(\":1\", nil) }\n",
            ),
        ],
        &["refused: cgo"],
    ),
    // Metrics server first.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nfunc main() {\n\tgo http.ListenAndServe(\":9090\", promhttp.Handler())\n\thttp.ListenAndServe(\":9011\", nil)\n}\n",
            ),
        ],
        &["? port"],
    ),
    // Tools module beside.
    shape(
        &[
            ("go.mod", "module example.org/svc\n\ngo 1.26\n"),
            (
                "main.go",
                "package main\n\nimport (\n\"net/http\"\n\"os\"\n\"fmt\"\n)\nfunc main() { http.ListenAndServe(\":9012\", nil) }\n",
            ),
            ("tools/go.mod", "module tools\n"),
            ("tools/main.go", "package main\nfunc main() {}\n"),
        ],
        &["port 9012"],
    ),
];
